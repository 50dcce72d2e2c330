//! Makes sure that there is a browser application to embed: without a built one, a page that says so.
//!
//! `cargo xtask up` builds the real one into `web/dist` first. Writes nothing where one is there.

use std::error::Error;
use std::fs;
use std::path::Path;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Serin</title>
<p>The browser application is not built into this program; run <code>cargo xtask up</code>.</p>
<p>The API, the pictures under <code>/d/</code> and the <a href="/docs">book</a> are there all the same.</p>
</html>
"#;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=web/dist");
    println!("cargo::rerun-if-changed=../docs");
    let index = Path::new("web/dist/index.html");
    if !index.exists() {
        fs::create_dir_all("web/dist")?;
        fs::write(index, PAGE)?;
    }
    Ok(())
}
