//! Compares the parts of the pages under `docs/` that are made of tables in this crate with those tables.
//!
//! With `WRITE_DOCS=1` the tests write those parts anew; without, they fail when one is not what the code says.

mod pages;

use std::path::Path;

const BEGIN: &str = "<!-- made of the release tool's code: do not edit from here -->\n";
const END: &str = "<!-- to there -->\n";

/// `page` with `made` between the markers.
fn spliced(page: &str, made: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{made}{END}{after}"))
}

/// Compares the page `name` with what is `made` by the tests of the module `module`.
pub(crate) fn compare(name: &str, made: &str, module: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    let page = std::fs::read_to_string(&path).unwrap();
    let expected = spliced(&page, made).unwrap_or_else(|| panic!("docs/{name} lacks a marker"));
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "docs/{name} is not what the code says; write it anew by: WRITE_DOCS=1 cargo test -p canary --lib {module}"
    );
}

#[test]
fn only_what_is_between_the_markers_is_made() {
    let page = |made: &str| format!("by hand\n{BEGIN}{made}{END}by hand\n");
    assert_eq!(spliced(&page("old\n"), "new\n"), Some(page("new\n")));
    assert_eq!(spliced("by hand\n", "new\n"), None);
}
