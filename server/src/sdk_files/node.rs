//! The SDK for Node, compiled, with what it needs; made and fetched by `cargo xtask` before the build.
//!
//! It lies in `.serin/node_modules`, above the copies of all versions. Editors, and tests that are run
//! by hand, look upwards from `services/NAME`, and find links to it in `services/node_modules`.

use std::fs;
use std::io;
use std::path::Path;

use rust_embed::Embed;

use super::{File, Tree};
use crate::run_file::data_dir;

const FOLDER: &str = "node_modules";
const NAME: &str = "serin-sdk";

#[derive(Embed)]
#[folder = "../sdk/typescript/dist/"]
#[include = "*.js"]
#[include = "*.d.ts"]
#[allow_missing = true]
struct Own;

#[derive(Embed)]
#[folder = "../sdk/typescript/node_modules/"]
#[include = "@nats-io/*.js"]
#[include = "@nats-io/*.d.ts"]
#[include = "@nats-io/*/package.json"]
#[include = "@nats-io/*/LICENSE"]
#[include = "tweetnacl/nacl-fast.js"]
#[include = "tweetnacl/nacl.d.ts"]
#[include = "tweetnacl/package.json"]
#[include = "tweetnacl/LICENSE"]
#[include = "amaro/dist/index.js"]
#[include = "amaro/dist/internal.js"]
#[include = "amaro/dist/errors.js"]
#[include = "amaro/dist/LICENSE"]
#[include = "amaro/package.json"]
#[include = "amaro/LICENSE.md"]
#[allow_missing = true]
struct Needed;

pub(super) fn tree() -> Tree {
    let about = [
        File::text(
            "serin-sdk/package.json",
            include_str!("../../../sdk/typescript/package.json"),
        ),
        File::text(
            "serin-sdk/README.md",
            include_str!("../../../sdk/typescript/README.md"),
        ),
        File::text(
            "serin-sdk/LICENSE",
            include_str!("../../../sdk/typescript/LICENSE"),
        ),
    ];
    let own = File::all::<Own>("serin-sdk/dist/");
    let files = own.chain(about).chain(File::all::<Needed>(""));
    Tree {
        folder: FOLDER,
        files: files.collect(),
    }
}

/// Lets editors and tests of `services/NAME` find the SDK, where a service is a package of Node. The
/// folder of links ignores itself in git; packages of a service's own lie nearer and go first.
pub(crate) fn link_for_editors(dir: &Path) -> io::Result<()> {
    let services = dir.join("services");
    let mut folders = fs::read_dir(&services).into_iter().flatten().flatten();
    if !folders.any(|folder| folder.path().join("package.json").is_file()) {
        return Ok(());
    }
    let links = services.join(FOLDER);
    let link = links.join(NAME);
    if fs::symlink_metadata(&link).is_ok() {
        return Ok(());
    }
    fs::create_dir_all(&links)?;
    fs::write(links.join(".gitignore"), "*\n")?;
    let sdk = data_dir(Path::new("../..")).join(FOLDER).join(NAME);
    std::os::unix::fs::symlink(sdk, &link)
}
