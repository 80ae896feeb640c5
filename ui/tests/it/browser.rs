//! The pages in a real browser: nothing blocked by the content security policy, readable in both themes, usable
//! without script, on a narrow screen and from the keyboard.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use verdict_ui::web::{ServeOptions, Server};

use crate::site::{HOSTILE_TRACE, Site};
use crate::webdriver::{Browser, Setup, skipped};

/// Ratio of WCAG 2.2 AA for text of this size.
const CONTRAST_MIN: f64 = 4.5;

/// Finds text whose contrast with what is behind it is too low.
const CONTRAST: &str = r"
const parse = (color) => { const m = color.match(/[\d.]+/g).map(Number); return {rgb: m.slice(0, 3), a: m.length > 3 ? m[3] : 1}; };
const lum = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.a > 0.99) return c.rgb; } return [255, 255, 255]; };
const low = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || e.closest('svg, title, option') || !e.checkVisibility()) continue;
  const a = lum(parse(getComputedStyle(e).color).rgb), b = lum(behind(e));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < MIN) low.add(e.tagName + '.' + e.className + ' ' + ratio.toFixed(2) + ' ' + walker.currentNode.textContent.trim().slice(0, 30));
}
return [...low];
";

/// A server on a free port that ends with the test's runtime.
async fn serve(site: &Site) -> String {
    let options = ServeOptions::new((Ipv4Addr::LOCALHOST, 0).into());
    let server = Server::bind(site.ledger.clone(), options).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.run(std::future::pending()));
    format!("http://{address}")
}

/// One page of each kind.
fn pages(site: &Site) -> Vec<String> {
    let trace = site.some_trace();
    vec![
        "/traces".to_owned(),
        "/traces?text=nothing-has-this".to_owned(),
        format!("/traces/{trace}"),
        format!("/traces/{HOSTILE_TRACE}"),
        "/events/3".to_owned(),
        format!("/incidents?trace={trace}"),
        format!("/incidents?trace={HOSTILE_TRACE}"),
        format!("/events/{}/what-if", site.ledger.find_id("hostile-1").unwrap().first().unwrap()),
        format!("{}/what-if?edits=%2Facton%3D1", site.page_of_a_tool()),
        "/integrity".to_owned(),
        "/policies".to_owned(),
        "/about".to_owned(),
        site.pages().into_iter().find(|page| page.starts_with("/diff?from=sha256")).unwrap(),
        "/nothing-here".to_owned(),
    ]
}

/// What the console said, but for the plain notice that an error page has an error status.
fn complaints(browser: &Browser) -> Vec<String> {
    let console = browser.console();
    console.into_iter().filter(|line| !line.contains("status of 404")).collect()
}

async fn in_browser(setup: Setup, test: impl FnOnce(&Browser, &str, &Site) + Send + 'static) {
    if skipped() {
        return;
    }
    let site = Site::full();
    let base = serve(&site).await;
    tokio::task::spawn_blocking(move || {
        let browser = Browser::start(setup);
        test(&browser, &base, &site);
    })
    .await
    .unwrap();
}

fn prefer(browser: &Browser, theme: &str) {
    let features = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
    browser.devtools("Emulation.setEmulatedMedia", &features);
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_pages_are_readable_in_light_and_dark_and_break_no_policy() {
    in_browser(Setup::default(), |browser, base, site| {
        let contrast = CONTRAST.replace("MIN", &CONTRAST_MIN.to_string());
        for theme in ["light", "dark"] {
            prefer(browser, theme);
            for page in pages(site) {
                browser.open_page(&format!("{base}{page}"));
                assert_eq!(complaints(browser), Vec::<String>::new(), "{theme} {page}");
                let low = strings(&browser.script(&contrast));
                assert!(low.is_empty(), "{theme} {page}: {low:#?}");
                let dark = browser.script("return getComputedStyle(document.body).backgroundColor");
                assert_eq!(dark == "rgb(15, 20, 26)", theme == "dark", "{theme} {page}: {dark}");
            }
        }
        // A choice wins over the browser's preference.
        prefer(browser, "light");
        browser.open_page(&format!("{base}/theme?theme=dark&to=/traces"));
        assert_eq!(browser.script("return location.pathname"), "/traces");
        assert_eq!(
            browser.script("return getComputedStyle(document.body).backgroundColor"),
            "rgb(15, 20, 26)"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_pages_work_without_script() {
    in_browser(Setup { no_script: true }, |browser, base, site| {
        for page in pages(site) {
            browser.open_page(&format!("{base}{page}"));
            assert_eq!(complaints(browser), Vec::<String>::new(), "{page}");
            assert_eq!(browser.script("return document.querySelectorAll('button.copy').length"), 0, "{page}: no script ran");
        }
        browser.open_page(&format!("{base}/traces"));
        let all = browser.script("return document.querySelectorAll('tbody tr').length");
        browser.script("document.getElementById('f-effect').value = 'block'; document.querySelector('.filters button').click()");
        assert_eq!(browser.script("return new URL(location.href).searchParams.get('effect')"), "block");
        let some = browser.script("return document.querySelectorAll('tbody tr').length");
        assert!(some.as_u64() < all.as_u64() && some.as_u64() > Some(0), "{some} of {all}");
        browser.open_page(&format!("{base}/integrity"));
        browser.script("document.querySelector('form[method=post] button').click()");
        let text = browser.script("return document.body.innerText");
        assert!(text.as_str().unwrap().contains("Everything held"), "{text}");
        browser.open_page(&format!("{base}/diff"));
        browser.script("document.querySelector('.filters button').click()");
        let text = browser.script("return document.body.innerText");
        assert!(text.as_str().unwrap().contains("Gate:"), "{text}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_pages_fit_a_narrow_screen() {
    in_browser(Setup::default(), |browser, base, site| {
        let narrow = json!({"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": false});
        browser.devtools("Emulation.setDeviceMetricsOverride", &narrow);
        for page in pages(site) {
            browser.open_page(&format!("{base}{page}"));
            let wide = browser.script(
                "const w = document.documentElement.scrollWidth; if (w <= 320) return [];
                 return ['page ' + w, ...[...document.querySelectorAll('main *, header *, footer *')]
                   .filter((e) => e.getBoundingClientRect().right > 321 && !e.closest('.scroll, .canvas, pre'))
                   .map((e) => e.tagName + '.' + e.className)].slice(0, 10)",
            );
            assert_eq!(strings(&wide), Vec::<String>::new(), "{page}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_pages_are_reached_from_the_keyboard() {
    const TAB: &str = "\u{e004}";
    const ENTER: &str = "\u{e007}";
    in_browser(Setup::default(), |browser, base, _| {
        browser.open_page(&format!("{base}/traces"));
        browser.press(TAB);
        assert_eq!(
            browser.script("return document.activeElement.className"),
            "skip",
            "the skip link comes first"
        );
        let shown = browser.script("return document.activeElement.getBoundingClientRect().left >= 0");
        assert_eq!(shown, true, "and is seen when it has the focus");
        browser.press(ENTER);
        browser.press(TAB);
        let inside = browser.script("return document.activeElement.closest('main') !== null");
        assert_eq!(inside, true, "it leads past the navigation");
        // Every stop is visible and marked; the first trace is reached.
        let mut stops = 0;
        while browser.script("return document.activeElement.className") != "id" {
            browser.press(TAB);
            stops += 1;
            assert!(stops < 20, "no trace is reached");
            let outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle");
            assert_ne!(outline, "none", "stop {stops}");
        }
        let first = browser.script("return document.activeElement.title");
        browser.press("j");
        let second = browser.script("return document.activeElement.title");
        assert_ne!(first, second);
        browser.press("k");
        assert_eq!(browser.script("return document.activeElement.title"), first);
        browser.press(ENTER);
        let path = browser.script("return location.pathname");
        assert_eq!(path, format!("/traces/{}", first.as_str().unwrap()));
        let nodes = browser.script(
            "const a = document.querySelector('svg.graph a'); a.focus(); return document.activeElement === a",
        );
        assert_eq!(nodes, true, "graph nodes take the focus");
    })
    .await;
}
