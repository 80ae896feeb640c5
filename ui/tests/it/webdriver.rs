//! A WebDriver client of a few lines: chromedriver speaks JSON over HTTP on loopback, and the commands that
//! matter here (the console log, the DevTools protocol) are Chrome's own, which client crates leave out.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// What to type where the browsers are missing.
const INSTALL: &str = "browser tests need Chromium: apt-get install chromium chromium-driver \
                       (or set SKIP_BROWSER=1 to leave them out)";

/// A chromedriver with one session; both end with it.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    profile: tempfile::TempDir,
    /// Kept open: a closed pipe would end the driver at its next line.
    _output: BufReader<ChildStdout>,
}

/// How the browser is set up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setup {
    pub(crate) no_script: bool,
}

/// Tells whether browser tests are left out, and says so loudly.
pub(crate) fn skipped() -> bool {
    let skip = std::env::var_os("SKIP_BROWSER").is_some_and(|value| value == "1");
    if skip {
        // Captured by the test runner and shown with the test's output.
        std::io::stderr().write_all(b"SKIPPED: SKIP_BROWSER=1, nothing was tested in a browser\n").unwrap();
    }
    skip
}

impl Browser {
    pub(crate) fn start(setup: Setup) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own, so that the browsers it starts end with it.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start chromedriver ({error}); {INSTALL}"));
        let mut output = BufReader::new(driver.stdout.take().unwrap());
        let port = output
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.rsplit_once("on port ")?.1.trim_end_matches('.').parse().ok())
            // It first repeats the port it was asked for.
            .find(|port| *port != 0)
            .unwrap_or_else(|| panic!("chromedriver names no port; {INSTALL}"));
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self { driver, port, session: String::new(), profile, _output: output };
        browser.session = browser.open(setup);
        browser
    }

    fn open(&self, setup: Setup) -> String {
        let mut args = vec![
            "--headless".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--window-size=1280,900".to_owned(),
            format!("--user-data-dir={}", self.profile.path().display()),
        ];
        if is_root() {
            args.push("--no-sandbox".to_owned());
        }
        let mut options = json!({"args": args});
        if setup.no_script {
            options["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
        }
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = self.call("POST", "/session", &wanted);
        let session = answer["value"]["sessionId"].as_str();
        session.unwrap_or_else(|| panic!("no session: {answer}; {INSTALL}")).to_owned()
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let body = if method == "POST" { body.to_string() } else { String::new() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).unwrap();
        serde_json::from_slice(&answer).unwrap()
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let answer = self.call("POST", &format!("/session/{}/{path}", self.session), body)["value"].take();
        assert!(answer.get("error").is_none(), "{path}: {answer}");
        answer
    }

    pub(crate) fn open_page(&self, url: &str) {
        self.command("url", &json!({"url": url}));
    }

    /// Runs a script that returns a value; it runs also where pages may run none.
    pub(crate) fn script(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": []}))
    }

    pub(crate) fn devtools(&self, command: &str, params: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": params}))
    }

    /// Presses keys one after the other on whatever has the focus.
    pub(crate) fn press(&self, keys: &str) {
        let steps: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
            })
            .collect();
        self.command("actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": steps}]}));
    }

    /// Takes what the console said since the last time about pages of ours. The browser opens with a page of its
    /// own, which complains by itself where there is no network.
    pub(crate) fn console(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({"type": "browser"}));
        log.as_array()
            .unwrap()
            .iter()
            .filter(|entry| !entry["message"].as_str().unwrap().starts_with("chrome://"))
            .map(|entry| {
                format!("{}: {}", entry["level"].as_str().unwrap(), entry["message"].as_str().unwrap())
            })
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.call("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        // The whole group, also when a test failed half-way.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.driver.id())]).status();
        let _ = self.driver.wait();
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}
