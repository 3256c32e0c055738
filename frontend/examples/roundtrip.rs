//! Imports ONNX models and writes them again: `roundtrip IN.onnx OUT.onnx …`, or `roundtrip IN.onnx` to list
//! what is carried unchanged.
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut failed = false;
    for pair in args.chunks(2) {
        if let Err(message) = roundtrip(&pair[0], pair.get(1).map(String::as_str)) {
            println!("{}: error: {message}", pair[0]);
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn roundtrip(input: &str, output: Option<&str>) -> Result<(), String> {
    let start = Instant::now();
    let imported = optc::onnx::import_file_with_remarks(Path::new(input)).map_err(|e| e.to_string())?;
    let import_time = start.elapsed();
    let opaque = imported.remarks.len();
    if output.is_none() {
        for remark in &imported.remarks {
            println!("{remark}");
        }
    }
    let start = Instant::now();
    let bytes = optc::onnx::export(&imported.graph).map_err(|e| e.to_string())?;
    let export_time = start.elapsed();
    if let Some(output) = output {
        std::fs::write(output, bytes).map_err(|e| format!("{output}: {e}"))?;
    }
    println!(
        "{input}: {} nodes, {opaque} carried; import {import_time:.1?}, export {export_time:.1?}",
        imported.graph.len()
    );
    Ok(())
}
