//! Real models through the compiler, each part against the one before: the JIT gives what the interpreter gives
//! on every graph, `fuse` what the import gives, and `compress` stays within the bound that it states, as does
//! what is written and read back.

use optc::codegen::Jit;
use optc::data::{Samples, Scaling, read_arrays};
use optc::onnx::import_file;
use optc::pack::{PackOptions, read, write};
use optc_ir::op::Op;
use optc_ir::{Backend, Constant, DType, Graph, Interp, Tensor, Type};
use optc_passes::{Dataset, PassManager, RunReport, pipeline};
use optc_tests::compare::{Judge, compare, result_names, run};
use optc_tests::inputs::random_tensor;
use optc_tests::root;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

mod models {
    include!(concat!(env!("OUT_DIR"), "/models.rs"));
}

/// How to run a model: what inputs look like, small because the interpreter is slow.
struct Zoo {
    name: &'static str,
    /// The shape of each input, and the range of its elements.
    inputs: &'static [(&'static [usize], (f64, f64))],
    /// Why it can't be run, if so; its constants are compared all the same.
    not_run: Option<&'static str>,
}

const UNIT: (f64, f64) = (-1.0, 1.0);

const ZOO: &[Zoo] = &[
    Zoo { name: "mnist_cntk", inputs: &[(&[1, 1, 28, 28], (0.0, 255.0))], not_run: None },
    Zoo { name: "espcn_x3", inputs: &[(&[1, 3, 4, 4], (0.0, 1.0))], not_run: None },
    Zoo { name: "ppocr_cls", inputs: &[(&[1, 3, 48, 64], UNIT)], not_run: None },
    Zoo {
        name: "silero_vad_sequence",
        inputs: &[(&[2, 576], UNIT), (&[1, 1, 128], UNIT), (&[1, 1, 128], UNIT)],
        not_run: None,
    },
    Zoo { name: "silero_vad_if", inputs: &[], not_run: Some("an `If` on the sampling rate is carried") },
    Zoo { name: "plcmos_gru", inputs: &[(&[1, 1, 8, 257], UNIT), (&[1, 64], UNIT)], not_run: None },
    Zoo { name: "magika", inputs: &[(&[1, 2048], (0.0, 256.0))], not_run: None },
];

fn check_model(folder: &str, name: &str) {
    let zoo = ZOO.iter().find(|zoo| zoo.name == name).unwrap_or_else(|| panic!("{name} is missing in ZOO"));
    let graph = import_file(&root().join(folder).join(format!("{name}.onnx"))).unwrap_or_else(|e| panic!("{e}"));
    check(zoo, &graph).unwrap_or_else(|e| panic!("{name}: {e}"));
}

fn check(zoo: &Zoo, imported: &Graph) -> Result<(), String> {
    let (fused, _) = transform(imported, "fuse")?;
    let (compressed, report) = transform(imported, "compress")?;
    error_is_as_stated(&fused, &compressed, &report)?;

    let (bytes, _) = write(&compressed, &PackOptions::default()).map_err(|e| e.to_string())?;
    let back = read(&bytes).map_err(|e| e.to_string())?;
    if back != compressed {
        return Err("the container holds another graph".to_owned());
    }
    same_values(&compressed, &back)?;

    let inputs = inputs(zoo, imported)?;
    let reference = run_both("import", imported, &inputs);
    if let Some(reason) = zoo.not_run {
        return match reference {
            Ok(_) => Err(format!("the model runs, though it is said not to: {reason}")),
            Err(_) => Ok(()),
        };
    }
    let reference = reference?;
    let after = run_both("fuse", &fused, &inputs)?;
    compare(&result_names(imported), &reference, &after, Judge::Rounding).map_err(|e| format!("fuse: {e}"))?;
    run_both("compress", &back, &inputs)?;
    Ok(())
}

fn transform(graph: &Graph, passes: &str) -> Result<(Graph, RunReport), String> {
    let mut after = graph.clone();
    let passes = pipeline::parse(passes).map_err(|e| e.to_string())?;
    let report = PassManager::new(&Interp).run(&passes, &mut after).map_err(|e| e.to_string())?;
    Ok((after, report))
}

fn inputs(zoo: &Zoo, graph: &Graph) -> Result<Vec<Tensor>, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let of_input = |(&input, &(shape, range))| match graph.ty(input) {
        Type::Tensor(ty) => Ok(random_tensor(&mut rng, ty.dtype, shape, range)),
        Type::Unknown => Err(format!("input {} is of unknown type", graph.name(input))),
    };
    graph.inputs().iter().zip(zoo.inputs).map(of_input).collect()
}

/// The results by the interpreter, after a check that the JIT gives the same.
fn run_both(what: &str, graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let reference = run(&Interp, graph, inputs).map_err(|e| format!("{what}: {e}"))?;
    let actual = run(&Jit::default(), graph, inputs).map_err(|e| format!("{what}: {e}"))?;
    compare(&result_names(graph), &reference, &actual, Judge::Backend).map_err(|e| format!("{what}: jit: {e}"))?;
    Ok(reference)
}

/// The constants of a graph by name, in order.
fn constants(graph: &Graph) -> Vec<(&str, &Constant)> {
    let constant = |node| match graph.op(node) {
        Op::Const(constant) => Some((graph.name(node), &**constant)),
        _ => None,
    };
    let mut constants: Vec<_> = graph.nodes().filter_map(constant).collect();
    constants.sort_by_key(|&(name, _)| name);
    constants
}

fn same_values(a: &Graph, b: &Graph) -> Result<(), String> {
    let (a, b) = (constants(a), constants(b));
    if a.len() != b.len() {
        return Err(format!("{} constants instead of {}", b.len(), a.len()));
    }
    for ((name, x), (other, y)) in a.into_iter().zip(b) {
        if name != other || x.decode() != y.decode() {
            return Err(format!("constant {name} is other than what was written"));
        }
    }
    Ok(())
}

/// Recomputes what the compressor claims of its error, and checks that what was zero still is.
fn error_is_as_stated(before: &Graph, after: &Graph, report: &RunReport) -> Result<(), String> {
    let remarks = report.passes.iter().filter(|pass| pass.name == "cluster-weights").flat_map(|pass| &pass.remarks);
    let text = remarks.map(ToString::to_string).find(|text| text.contains("add up to"));
    let text = text.ok_or("cluster-weights does not state its error")?;
    let number = |after: &str| {
        let rest = &text[text.find(after)? + after.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        rest[..end].parse::<f64>().ok()
    };
    let stated = number("add up to ").ok_or("the error is no number")?;
    let bound = number(" within ").ok_or("the bound is no number")?;

    let (before, after) = (constants(before), constants(after));
    if before.len() != after.len() {
        return Err(format!("{} constants before and {} after", before.len(), after.len()));
    }
    let (mut sum, mut moved) = (0.0, 0);
    for ((name, x), (other, y)) in before.into_iter().zip(after) {
        let (x, y) = (x.decode(), y.decode());
        if name != other || x.ty() != y.ty() {
            return Err(format!("{name} became {other}"));
        }
        if x == y {
            continue;
        }
        if !matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16 | DType::F64) || x.shape().len() < 2 {
            return Err(format!("{name}, {}, is no weight and changed", x.ty()));
        }
        let (x, y) = (x.data().to_f64(), y.data().to_f64());
        if x.iter().zip(&y).any(|(&x, &y)| x == 0.0 && y != 0.0) {
            return Err(format!("a zero of {name} is no zero any more"));
        }
        let error: f64 = x.iter().zip(&y).map(|(x, y)| (x - y).powi(2)).sum();
        sum += error / x.iter().map(|x| x * x).sum::<f64>();
        moved += 1;
    }
    let error = sum.sqrt();
    if moved == 0 {
        return Err("no weight changed".to_owned());
    }
    // The remark has four digits.
    if (error - stated).abs() > 1e-4 || error > bound {
        return Err(format!("the error is {error}, stated is: {text}"));
    }
    Ok(())
}

/// With data, `cluster-weights` moves weights as far as the results allow: on the samples that it was given they
/// must stay as near as it was told, and with a looser bound there must be fewer bits.
#[test]
fn cluster_weights_with_data() {
    let graph = import_file(&root().join("models/mnist_cntk.onnx")).expect("the model is there");
    let images = read_arrays(&root().join("data/mnist/t10k-images-idx3-ubyte.gz")).expect("the data is there");
    let data = Samples::new(images, &graph, Scaling::default()).expect("the data fits").limit(64);
    let batches: Vec<Vec<Tensor>> =
        (0..data.len()).map(|i| data.batch(i..i + 1).expect("samples are in memory")).collect();
    let results = |graph: &Graph| -> Vec<Vec<f32>> {
        let mut executable = Jit::default().compile(graph).expect("the model is supported");
        let run = |inputs: &Vec<Tensor>| executable.run(inputs).expect("the data fits");
        batches.iter().map(run).map(|results| results[0].as_f32().expect("results are f32").to_vec()).collect()
    };
    let reference = results(&graph);
    let backend = Jit::default();
    let mut sizes = Vec::new();
    for (drift, agreement) in [(0.01, 1.0), (0.2, 0.9)] {
        let passes = format!("simplify,cluster-weights{{drift={drift},agreement={agreement}}},encode-weights");
        let mut manager = PassManager::new(&backend);
        manager.data = Some(&data);
        let mut after = graph.clone();
        let report = manager.run(&pipeline::parse(&passes).expect("the passes exist"), &mut after);
        let report = report.unwrap_or_else(|e| panic!("{passes}: {e}"));
        let moved = results(&after);
        let pairs =
            || reference.iter().flatten().zip(moved.iter().flatten()).map(|(&x, &y)| (f64::from(x), f64::from(y)));
        let error: f64 = pairs().map(|(x, y)| (x - y).powi(2)).sum();
        let error = (error / pairs().map(|(x, _)| x * x).sum::<f64>()).sqrt();
        let same = reference.iter().zip(&moved).filter(|(x, y)| arg_max(x) == arg_max(y)).count();
        assert!(error > 0.0 && error <= drift, "{passes}: results moved by {error}");
        assert!(same as f64 >= agreement * reference.len() as f64, "{passes}: {same} classes agree");
        sizes.push(report.after.stored_bytes);
    }
    assert!(sizes[1] < sizes[0], "{sizes:?}: a looser bound saves nothing");
}

fn arg_max(row: &[f32]) -> Option<usize> {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]))
}
