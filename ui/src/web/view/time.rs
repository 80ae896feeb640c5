//! Times in UTC with the zone named, and durations in the unit that fits.

use jiff::Timestamp;

/// A point in time as pages show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    /// For `datetime=`: RFC 3339 with all nine digits.
    pub(crate) machine: String,
    /// For people: `2026-11-20 20:46:29.120 UTC`.
    pub(crate) human: String,
    /// Without the fraction of a second, for lists.
    pub(crate) short: String,
    /// The time of day alone, for rows under a date.
    pub(crate) clock: String,
}

/// Formats Unix nanoseconds.
pub(crate) fn moment(ns: u64) -> Moment {
    let Ok(stamp) = Timestamp::from_nanosecond(i128::from(ns)) else {
        // Beyond the year 9999: show the number as it is rather than a wrong date.
        let raw = format!("{ns} ns since 1970 UTC");
        return Moment { machine: raw.clone(), human: raw.clone(), short: raw.clone(), clock: raw };
    };
    Moment {
        machine: stamp.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string(),
        human: stamp.strftime("%Y-%m-%d %H:%M:%S.%3f UTC").to_string(),
        short: stamp.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        clock: stamp.strftime("%H:%M:%S.%3f").to_string(),
    }
}

/// Formats a length of time: `850 µs`, `12.3 ms`, `4.20 s`, `3 min 04 s`, `2 h 10 min`, `3 d 4 h`.
pub(crate) fn duration(ns: u64) -> String {
    const MICRO: u64 = 1_000;
    const MILLI: u64 = 1_000 * MICRO;
    const SECOND: u64 = 1_000 * MILLI;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match ns {
        0..MICRO => format!("{ns} ns"),
        MICRO..MILLI => format!("{} µs", ns / MICRO),
        MILLI..SECOND => format!("{}.{} ms", ns / MILLI, ns % MILLI / (100 * MICRO)),
        SECOND..MINUTE => format!("{}.{:02} s", ns / SECOND, ns % SECOND / (10 * MILLI)),
        MINUTE..HOUR => format!("{} min {:02} s", ns / MINUTE, ns % MINUTE / SECOND),
        HOUR..DAY => format!("{} h {:02} min", ns / HOUR, ns % HOUR / MINUTE),
        _ => format!("{} d {} h", ns / DAY, ns % DAY / HOUR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_carry_their_zone() {
        let moment = moment(1_795_207_589_120_456_789);
        assert_eq!(moment.machine, "2026-11-20T20:46:29.120456789Z");
        assert_eq!(moment.human, "2026-11-20 20:46:29.120 UTC");
        assert_eq!(super::moment(u64::MAX).machine, "2554-07-21T23:34:33.709551615Z");
    }

    #[test]
    fn durations_fit_their_unit() {
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(850_000), "850 µs");
        assert_eq!(duration(12_340_000), "12.3 ms");
        assert_eq!(duration(4_207_000_000), "4.20 s");
        assert_eq!(duration(184_000_000_000), "3 min 04 s");
        assert_eq!(duration(7_800_000_000_000), "2 h 10 min");
        assert_eq!(duration(u64::MAX), "213503 d 23 h");
    }
}
