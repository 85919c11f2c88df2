//! Hands the compiled kernel programs to the agent, which embeds them. Compiles nothing: `cargo xtask build` does.

use std::env;
use std::path::PathBuf;

fn main() {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .unwrap_or_default();
    let object = manifest.with_file_name("target").join("bpf/branchline.o");
    println!("cargo::rerun-if-changed={}", object.display());
    if object.is_file() {
        println!("cargo::rustc-env=BRANCHLINE_OBJECT={}", object.display());
    } else {
        println!("cargo::error=the eBPF programs are not compiled yet; run: cargo xtask build");
    }
}
