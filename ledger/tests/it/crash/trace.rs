//! Reads what strace wrote: calls of several threads, each with its beginning and its end.
//!
//! strace prints a call as one line when nothing came between, else as `… <unfinished ...>` and `<... … resumed>`.
//! Both become a [`Step::Enter`] and a [`Step::Exit`]. That matters: a flush covers what was written before it began,
//! and its promise holds once it has returned.

use std::collections::BTreeMap;

/// A call, by its place in the recording.
pub(super) type CallId = usize;

/// One line of the recording, or one half of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Enter {
        id: CallId,
        name: String,
        arguments: Vec<String>,
    },
    /// The result; negative for an error.
    Exit {
        id: CallId,
        result: i64,
    },
}

/// Parses a recording; a line that is not understood is an error, because a call that is overlooked makes a disk that
/// never was.
pub(super) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut open: BTreeMap<u64, (CallId, String)> = BTreeMap::new();
    let mut calls = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let bad =
            |what: &str| format!("line {number}: {what}: {}", line.chars().take(200).collect::<String>());
        let (pid, rest) = line.split_once(' ').ok_or_else(|| bad("no process"))?;
        let pid: u64 = pid.parse().map_err(|_| bad("no process"))?;
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(rest) = rest.strip_prefix("<... ") {
            let (name, rest) = rest.split_once(" resumed>").ok_or_else(|| bad("no name"))?;
            let (id, began) = open.remove(&pid).ok_or_else(|| bad("was not begun"))?;
            if began != name {
                return Err(bad("resumes another call"));
            }
            if let Some(result) = result(rest) {
                steps.push(Step::Exit { id, result });
            }
            continue;
        }
        let (name, rest) = rest.split_once('(').ok_or_else(|| bad("no call"))?;
        let id = calls;
        calls += 1;
        let (inside, end) = if let Some(inside) = rest.strip_suffix("<unfinished ...>") {
            (inside, None)
        } else {
            let end = rest.rfind(") ").ok_or_else(|| bad("no end"))?;
            (&rest[..end], Some(&rest[end..]))
        };
        steps.push(Step::Enter { id, name: name.to_owned(), arguments: split(inside) });
        match end {
            None => {
                if open.insert(pid, (id, name.to_owned())).is_some() {
                    return Err(bad("a thread is in two calls"));
                }
            }
            // `= ?`: the thread ended inside the call.
            Some(end) => steps.extend(result(end).map(|result| Step::Exit { id, result })),
        }
    }
    Ok(steps)
}

/// The number after the last ` = `.
fn result(text: &str) -> Option<i64> {
    let (_, text) = text.rsplit_once(" = ").or_else(|| text.rsplit_once("= "))?;
    let word = text.split_whitespace().next()?;
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|_| 0),
        None => word.parse().ok(),
    }
}

/// Splits arguments at the commas that are in no bracket and no string. Strings are hexadecimal, so that a quote ends
/// them always.
fn split(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut start) = (0_i32, false, 0);
    let mut list = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'[' | b'{' | b'(' if !quoted => depth += 1,
            b']' | b'}' | b')' if !quoted => depth -= 1,
            b',' if !quoted && depth == 0 => {
                list.push(text[start..at].trim().to_owned());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        list.push(last.to_owned());
    }
    list
}

/// The bytes of a string argument, wherever in the argument it stands; `None` when it was cut.
pub(super) fn bytes(argument: &str) -> Option<Vec<u8>> {
    let (_, rest) = argument.split_once('"')?;
    let (text, after) = rest.split_once('"')?;
    if after.starts_with("...") {
        return None;
    }
    text.split("\\x").skip(1).map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_several_threads_are_told_apart() {
        let text = concat!(
            "7 openat(AT_FDCWD, \"\\x2f\\x61\", O_RDWR|O_CREAT, 0600) = 3\n",
            "7 write(3, \"\\x22\\x2c\\x28\", 3 <unfinished ...>\n",
            "8 fdatasync(3 <unfinished ...>\n",
            "7 <... write resumed>)             = 3\n",
            "8 <... fdatasync resumed>)         = -1 EIO (Input/output error)\n",
            "7 fcntl(3, F_SETLK, {l_type=F_WRLCK, l_whence=SEEK_SET, l_start=0, l_len=0}) = 0\n",
            "8 +++ exited with 0 +++\n",
            "7 exit_group(0)                     = ?\n",
        );
        let steps = parse(text).unwrap();
        let names: Vec<_> = steps
            .iter()
            .map(|step| match step {
                Step::Enter { id, name, arguments } => format!("{name}#{id}/{}", arguments.len()),
                Step::Exit { id, result } => format!("{id}={result}"),
            })
            .collect();
        assert_eq!(
            names,
            [
                "openat#0/4",
                "0=3",
                "write#1/3",
                "fdatasync#2/1",
                "1=3",
                "2=-1",
                "fcntl#3/3",
                "3=0",
                "exit_group#4/1"
            ]
        );
        let Step::Enter { arguments, .. } = &steps[2] else { panic!("{steps:?}") };
        assert_eq!(bytes(&arguments[1]).unwrap(), b"\",(");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(parse("7 <... write resumed>) = 3\n").is_err());
        assert!(parse("nonsense\n").is_err());
        assert_eq!(bytes("\"\\x61\"..."), None, "a string that strace cut");
        assert_eq!(bytes("[{iov_base=\"\\x61\\x62\", iov_len=2}]").unwrap(), b"ab");
    }
}
