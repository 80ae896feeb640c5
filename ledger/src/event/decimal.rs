//! Integers that may pass 2^53 are decimal strings in JSON; plain JSON integers are accepted on input.

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};
use std::fmt;
use std::marker::PhantomData;

struct Decimal<T>(PhantomData<T>);

impl<T: std::str::FromStr + TryFrom<i64> + TryFrom<u64>> Visitor<'_> for Decimal<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer or a decimal string")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::custom(format_args!("{value} is out of range")))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::custom(format_args!("{value} is out of range")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::custom(format_args!("`{text}` is not a decimal integer in range")))
    }
}

struct OptionDecimal<T>(PhantomData<T>);

impl<'de, T: std::str::FromStr + TryFrom<i64> + TryFrom<u64>> Visitor<'de> for OptionDecimal<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, a decimal string or null")
    }

    fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        deserializer.deserialize_any(Decimal(PhantomData)).map(Some)
    }
}

macro_rules! option_decimal {
    ($name:ident, $ty:ty) => {
        pub(super) mod $name {
            use super::{Deserializer, OptionDecimal, PhantomData, Serializer};

            #[expect(clippy::ref_option, reason = "serde passes the field by reference")]
            pub(crate) fn serialize<S: Serializer>(value: &Option<$ty>, s: S) -> Result<S::Ok, S::Error> {
                match value {
                    Some(value) => s.collect_str(value),
                    None => s.serialize_none(),
                }
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<$ty>, D::Error> {
                d.deserialize_option(OptionDecimal(PhantomData))
            }
        }
    };
}

option_decimal!(option_u64, u64);
option_decimal!(option_i64, i64);

pub(super) mod i64 {
    use super::{Decimal, Deserializer, PhantomData, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
    pub(crate) fn serialize<S: Serializer>(value: &i64, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
        d.deserialize_any(Decimal(PhantomData))
    }
}
