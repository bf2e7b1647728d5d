//! Writes the Rust code of the protos: the messages and the client into `src/v1.rs`, and the server
//! that the crate's own tests run into `tests/face/v1.rs`.
//!
//! Takes the folder of the protos and the folder of the crate. Nothing of this is published.

use std::{env, error::Error, fs, path::Path};

const PACKAGE: &str = "pullcord.v1";
const SERVICE: &str = "pullcord/v1/run_service.proto";

fn main() -> Result<(), Box<dyn Error>> {
    let mut folders = env::args().skip(1);
    let (Some(protos), Some(out)) = (folders.next(), folders.next()) else {
        return Err("usage: pullcord-generate PROTOS CRATE".into());
    };
    let out = Path::new(&out);
    let files = protox::Compiler::new([protos])?
        .include_imports(true)
        .include_source_info(true) // the comments
        .open_file(SERVICE)?
        .file_descriptor_set();

    write(out, "src", |to| {
        tonic_prost_build::configure()
            .build_server(false)
            .build_transport(false) // how to connect is the client's own business
            .out_dir(to)
            .compile_fds(files.clone())
    })?;
    write(out, "tests/face", |to| {
        tonic_prost_build::configure()
            .build_client(false)
            .generate_default_stubs(true) // a test answers only what it asks
            .extern_path(format!(".{PACKAGE}"), "::pullcord::v1")
            .out_dir(to)
            .compile_fds(files.clone())
    })
}

/// Has code written into a folder, as `v1.rs` instead of what the generator calls it.
fn write(
    out: &Path,
    folder: &str,
    generate: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), Box<dyn Error>> {
    let folder = out.join(folder);
    fs::create_dir_all(&folder)?;
    generate(&folder)?;
    fs::rename(folder.join(format!("{PACKAGE}.rs")), folder.join("v1.rs"))?;
    Ok(())
}
