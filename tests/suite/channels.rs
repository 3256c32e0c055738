//! Channels removed from random networks, against the same networks with those channels masked, for two
//! seconds or `OPTC_CHANNELS_SECONDS`, from seed 0 or `OPTC_FUZZ_SEED`. A failure names its seed.
//!
//! A channel is masked where it is summed over: zeros take its place there, whoever made it. Removing it must
//! give the same results, and every type that follows from the new constants must be the old one with fewer
//! channels, which [`remove`] checks itself.
//!
//! Both networks compute in `f64`, so that a difference is one of meaning: results may differ by [`RELATIVE`] of
//! the largest number of each result.

use std::time::{Duration, Instant};

use optc_ir::op::Binary;
use optc_ir::{DType, Data, Graph, Interp, Op, Tensor, verify};
use optc_passes::Analysis;
use optc_passes::analysis::channels::{Alignment, Blocker, ChannelGroups, UnitId, remove, unshare};
use optc_tests::case::round_trip;
use optc_tests::compare::{Judge, Leeway, compare_within, result_names, run};
use optc_tests::inputs::{InputSpec, random_inputs};
use optc_tests::topologies::{random_topology, widened};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What results may differ by, relative to the largest. Roundings of `f64` stay far below; the offsets of
/// normalisations, which removal changes, are kept as `f32`.
const RELATIVE: f64 = 1e-6;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

/// What a run saw.
#[derive(Default)]
struct Seen {
    graphs: usize,
    with_units: usize,
    units: usize,
    removed: usize,
}

#[test]
fn removed_channels_are_masked_channels() {
    let budget = Duration::from_secs(number("OPTC_CHANNELS_SECONDS", 2));
    let start = Instant::now();
    let mut seen = Seen::default();
    for seed in number("OPTC_FUZZ_SEED", 0).. {
        if let Err(e) = holds(seed, &mut seen) {
            panic!("seed {seed}: {e}\n{}", random_topology(seed));
        }
        if start.elapsed() >= budget {
            break;
        }
    }
    // A generator or an analysis gone blind would pass everything.
    assert!(2 * seen.with_units > seen.graphs, "only {} of {} graphs had channels", seen.with_units, seen.graphs);
    assert!(3 * seen.removed > seen.units / 2, "only {} of {} channels went", seen.removed, seen.units);
    if std::env::var_os("OPTC_CHANNELS_SECONDS").is_some() {
        let Seen { graphs, with_units, units, removed } = seen;
        eprintln!("{graphs} graphs, {with_units} with channels; {removed} removals of {units} channels");
    }
}

fn holds(seed: u64, seen: &mut Seen) -> Result<(), String> {
    let graph = widened(&random_topology(seed))?;
    verify::verify(&graph).map_err(|e| e.to_string())?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Convolutions by groups lose the channels at the same places of every group, or any.
    let groups = match rng.random_bool(0.5) {
        true => ChannelGroups::of(&graph),
        false => ChannelGroups::aligned(&graph, &Alignment::with(&graph, |count, of| any_order(&mut rng, count, of))),
    };
    seen.graphs += 1;
    seen.with_units += usize::from(!groups.is_empty());
    seen.units += groups.len();
    let share = rng.random_range(0.1..1.0);
    let any: Vec<UnitId> = groups.units().filter(|_| rng.random_bool(share)).collect();
    // Whatever is chosen, the graph stays one.
    let any = groups.spare(&any);
    let mut pruned = graph.clone();
    remove(&mut pruned, &groups, &any).map_err(|e| format!("{e} without {any:?}"))?;
    verify::verify(&pruned).map_err(|e| format!("{e}\n{pruned}"))?;
    pruned.gc();
    round_trip(&pruned)?;
    let inputs = random_inputs(&graph, &InputSpec::default(), seed)?;
    run(&Interp, &pruned, &inputs).map_err(|e| format!("{e}\n{pruned}"))?;

    let exact: Vec<UnitId> = any.iter().copied().filter(|&unit| groups.statistics(unit).is_none()).collect();
    let exact = groups.spare(&exact);
    seen.removed += exact.len();
    let mut pruned = graph.clone();
    remove(&mut pruned, &groups, &exact).map_err(|e| e.to_string())?;
    let masked = masked(&graph, &groups, &exact)?;
    let reference = run(&Interp, &masked, &inputs)?;
    let actual = run(&Interp, &pruned, &inputs)?;
    let leeway = Leeway { slack: RELATIVE / Judge::Rounding.tolerance(DType::F64), floor: 0.0 };
    let judged = compare_within(&result_names(&graph), &reference, &actual, Judge::Rounding, leeway);
    judged.map_err(|e| format!("{e}, without {exact:?}\n{pruned}"))
}

/// The channels of each group in any order.
fn any_order(rng: &mut ChaCha8Rng, count: usize, groups: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.chunks_mut(count / groups).for_each(|group| group.shuffle(rng));
    order
}

/// Zeros in place of units wherever they are summed over.
fn masked(graph: &Graph, groups: &ChannelGroups, units: &[UnitId]) -> Result<Graph, String> {
    let mut masked = graph.clone();
    for contraction in &groups.contractions {
        let part = contraction.ends.len();
        let mask: Vec<f64> = (0..contraction.groups * part)
            .map(|i| f64::from(!contraction.ends.at(i % part).iter().any(|unit| units.contains(unit))))
            .collect();
        if mask.iter().all(|&keep| keep == 1.0) {
            continue;
        }
        let Some(value) = masked.operand(contraction.node, contraction.slot) else { continue };
        let rank = graph.ty(value).shape().map_or(0, <[_]>::len);
        let mut shape = vec![1; rank];
        shape[contraction.axis] = mask.len();
        let dtype = graph.ty(value).dtype().unwrap_or(DType::F64);
        let mask = masked.add_tensor("mask", Tensor::new(shape, Data::from_f64(dtype, mask)));
        let zeroed = masked
            .add("masked", Op::Binary(Binary::Mul), &[Some(value), Some(mask.into())])
            .map_err(|e| format!("masking: {e}"))?;
        masked.set_operand(contraction.node, contraction.slot, Some(zeroed.into()));
    }
    Ok(masked)
}

/// Layers of trained models all of whose channels must stay, and why. Every other convolution and linear layer can
/// be pruned.
const FIXED: [(&str, &[&str]); 6] = [
    ("mnist_cntk.onnx", &["Times212: Times212 is a result of the graph"]),
    ("espcn_x3.onnx", &["Conv_6: DepthToSpace_7 is a result of the graph"]),
    (
        "magika.onnx",
        &[
            "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/Dense_1/MatMul: jax2tf_get_logits_/pjit_get_logits_/truediv is a result of the graph",
        ],
    ),
    ("plcmos_gru.onnx", &["Gemm_71: it has one channel"]),
    ("ppocr_cls.onnx", &["MatMul@0: Softmax@0 normalises over this axis"]),
    ("silero_vad_sequence.onnx", &["/recurrent/LSTM: h is an input of the graph", "/output/Conv: it has one channel"]),
];

#[test]
fn what_keeps_channels_of_real_models_is_known() {
    for (name, expected) in FIXED {
        let mut model = optc::Model::load(optc_tests::root().join("models").join(name)).expect("the model is there");
        model.simplify(0).expect("the passes run");
        model.graph.gc();
        unshare(&mut model.graph);
        let groups = ChannelGroups::of(&model.graph);
        let reason = |(node, blocker): (_, Option<Blocker>)| match blocker {
            Some(blocker) => {
                format!("{}: {} {}", model.graph.name(node), model.graph.name(blocker.node), blocker.reason)
            }
            None => format!("{}: it has one channel", model.graph.name(node)),
        };
        let fixed: Vec<String> = groups.fixed_layers(&model.graph).into_iter().map(reason).collect();
        assert_eq!(fixed, expected, "{name}");
    }
}
