//! Has the binary built again when what it carries for services was fetched or made anew.

/// What `cargo xtask` makes before the build; the macro that embeds it sees only files that it knew.
const MADE: [&str; 3] = [
    "../sdk/python/vendor",
    "../sdk/typescript/dist",
    "../sdk/typescript/node_modules/.package-lock.json",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for made in MADE {
        println!("cargo::rerun-if-changed={made}");
    }
}
