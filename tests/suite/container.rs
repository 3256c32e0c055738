//! Containers give graphs back as they were; whatever else is given to the reader is an error.

use std::time::{Duration, Instant};

use optc::pack::{PackError, PackOptions, read, write};
use optc_ir::{Graph, Interp, text};
use optc_passes::{PassManager, pipeline};
use optc_tests::generate::random_graph;
use optc_tests::{files, root};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn pack(graph: &Graph) -> Result<Vec<u8>, PackError> {
    write(graph, &PackOptions::default()).map(|(bytes, _)| bytes)
}

#[test]
fn graphs_of_all_cases() {
    let mut folders = vec![root().join("text")];
    let passes = std::fs::read_dir(root().join("passes")).expect("the folder of pass cases exists");
    folders.extend(passes.filter_map(Result::ok).map(|entry| entry.path()));
    let mut count = 0;
    for path in folders.iter().flat_map(|folder| files(folder, "ir")) {
        let source = std::fs::read_to_string(&path).expect("the file was just listed");
        let Ok(graph) = text::parse(&source) else { panic!("{} is no graph", path.display()) };
        match pack(&graph) {
            Ok(bytes) => assert_eq!(read(&bytes).as_ref(), Ok(&graph), "{}", path.display()),
            // A dump leaves elements out.
            Err(PackError::Unsupported { message, .. }) => {
                assert!(message.contains("hash"), "{}: {message}", path.display())
            }
            Err(e) => panic!("{}: {e}", path.display()),
        }
        count += 1;
    }
    assert!(count > 10, "{count} cases");
}

#[test]
fn random_graphs_before_and_after_compression() {
    for seed in 0..40 {
        let mut graph = random_graph(seed);
        for round in ["as generated", "compressed"] {
            let bytes = pack(&graph).unwrap_or_else(|e| panic!("seed {seed} {round}: {e}"));
            assert_eq!(read(&bytes).as_ref(), Ok(&graph), "seed {seed} {round}");
            let passes = pipeline::parse("prune-magnitude,cluster-weights,encode-weights").expect("the passes exist");
            // Not every random graph has weights to compress.
            if PassManager::new(&Interp).run(&passes, &mut graph).is_err() {
                break;
            }
        }
    }
}

#[test]
fn damaged_bytes_are_errors() {
    let seconds = std::env::var("OPTC_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (budget, start) = (Duration::from_secs(seconds), Instant::now());
    let files: Vec<Vec<u8>> = (0..20).filter_map(|seed| pack(&random_graph(seed)).ok()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    while start.elapsed() < budget {
        let original = &files[rng.random_range(0..files.len())];
        let mut bytes = original.clone();
        match rng.random_range(0..3) {
            0 => bytes.truncate(rng.random_range(0..bytes.len())),
            1 => {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
            _ => {
                let at = rng.random_range(0..bytes.len());
                let end = (at + rng.random_range(1..64)).min(bytes.len());
                rng.fill(&mut bytes[at..end]);
            }
        }
        assert!(bytes == *original || read(&bytes).is_err(), "a damaged file is read");
    }
}
