//! The choice of algorithms for layers of compressed weights: by the cost model's own cycles a compressed model is
//! never slower than its dense form. Nothing is timed here.

use std::sync::Arc;

use optc::architectures::{self, NewOptions};
use optc::data::random_inputs;
use optc_codegen::choice::{Measured, Modelled, Reason};
use optc_codegen::{Algorithm, Choice, Plan, Selection, Target, Vectors};
use optc_ir::builder::GraphBuilder;
use optc_ir::op::{Conv, Linear};
use optc_ir::{Constant, DType, Form, Graph, Interp, Op, Tensor};
use optc_passes::{PassManager, pipeline};
use optc_tests::root;

/// Networks that the repository builds.
const BUILT: &[&str] = &["lenet-300-100", "lenet-5", "resnet-20", "mobilenet-v1"];

/// Trained models in `tests/models`.
const TRAINED: &[&str] = &["mnist_cntk", "espcn_x3", "ppocr_cls"];

const PERCENT: [usize; 6] = [50, 70, 80, 90, 95, 99];

/// The graph as it is run, so many percent of the weights of each layer zero.
fn pruned(graph: &Graph, percent: usize) -> Graph {
    let passes = format!("prune-magnitude{{sparsity=0.{percent}}}");
    let mut graph = graph.clone();
    let passes = pipeline::parse(&passes).expect("the pipeline is one");
    PassManager::new(&Interp).run_in_place(&passes, &mut graph).expect("weights can be pruned");
    graph
}

fn choose(graph: &Graph, vectors: Vectors, selection: &Selection) -> (Vec<Choice>, Modelled) {
    let (inputs, _) = random_inputs(graph, 0).expect("inputs have types");
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape().to_vec()).collect();
    Plan::choose(graph, &shapes, &Target { vectors, threads: 1 }, selection).expect("the graph can be planned")
}

/// Checks the choices for a model, and counts those that are not dense.
fn check(name: &str, graph: &Graph) -> usize {
    let mut sparse = 0;
    for percent in PERCENT {
        let graph = pruned(graph, percent);
        for vectors in [Vectors::Avx512, Vectors::Avx2] {
            let (choices, Modelled { chosen, dense }) = choose(&graph, vectors, &Selection::Modelled);
            assert!(!choices.is_empty() && chosen <= dense, "{name}, {percent} %, {vectors}: {chosen} > {dense}");
            for choice in &choices {
                let cycles = choice.cycles(choice.chosen).expect("what is chosen is a candidate");
                let dense = choice.cycles(Algorithm::Dense).expect("every layer can be computed densely");
                // Only for the sake of conversions may a layer by itself be slower.
                assert!(cycles <= dense || choice.reason == Reason::Conversions, "{name}, {percent} %: {choice}");
                sparse += usize::from(choice.chosen != Algorithm::Dense);
            }
        }
    }
    sparse
}

/// The graph, all filters of each block of 16 keeping the same tenth of their weights.
fn in_blocks(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    for node in graph.topo_order() {
        let Some(w) = graph.operand(node, 1).filter(|_| matches!(graph.op(node), Op::Conv(_) | Op::Linear(_))) else {
            continue;
        };
        let Some(constant) = graph.constant(w) else { continue };
        let tensor = constant.decode();
        let (shape, weights) = (tensor.shape().to_vec(), tensor.as_f32().expect("weights are numbers"));
        let row = weights.len() / shape[0];
        let kept = |i: usize| (i % row * 7 + i / row / 16 * 3).is_multiple_of(10);
        let weights: Vec<f32> = weights.iter().enumerate().map(|(i, &w)| if kept(i) { w } else { 0.0 }).collect();
        graph.set_constant_operand(node, 1, Constant::dense(Tensor::f32(shape, weights)));
    }
    graph
}

/// Weights that are zero in blocks are computed by lists, wherever that takes the fewest cycles; elsewhere they are
/// not.
#[test]
fn blocks_are_computed_by_lists() {
    let fuse = pipeline::preset("fuse").expect("the preset is there");
    let mut graph = architectures::build("resnet-20", &NewOptions::default()).expect("it is one of ours");
    PassManager::new(&Interp).run_in_place(&fuse, &mut graph).expect("the graph can be simplified");
    for vectors in [Vectors::Avx512, Vectors::Avx2] {
        let (choices, Modelled { chosen, dense }) = choose(&in_blocks(&graph), vectors, &Selection::Modelled);
        let listed = choices.iter().filter(|choice| choice.chosen == Algorithm::Listed).count();
        assert!(listed >= 15 && chosen < dense / 3.0, "{vectors}: {listed} layers, {chosen} of {dense}");
        for choice in &choices {
            assert!(choice.cycles(Algorithm::Listed).is_some(), "{vectors}: {choice}");
        }
        // Weights left at random are at most places of every whole block, and many in some window.
        for percent in [50, 90] {
            let (choices, _) = choose(&pruned(&graph, percent), vectors, &Selection::Modelled);
            let convolutions: Vec<_> = choices.iter().filter(|choice| choice.weights > 1000).collect();
            let has = |choice: &Choice, algorithm| choice.cycles(algorithm).is_some();
            let any = |choice: &&&Choice| has(choice, Algorithm::Listed) || has(choice, Algorithm::NofM);
            let patterned = convolutions.iter().filter(any).count();
            assert!(convolutions.len() > 15 && patterned == 0, "{vectors}, {percent} %: {patterned} layers");
        }
    }
}

#[test]
fn compressed_models_are_never_slower_than_their_dense_form() {
    let fuse = pipeline::preset("fuse").expect("the preset is there");
    let simplified = |mut graph: Graph| {
        PassManager::new(&Interp).run_in_place(&fuse, &mut graph).expect("the graph can be simplified");
        graph
    };
    for name in BUILT {
        let graph = simplified(architectures::build(name, &NewOptions::default()).expect("it is one of ours"));
        assert!(check(name, &graph) > 0, "{name}: zeros gain nothing");
        // Asked for, everything is dense, and says why.
        let (choices, modelled) = choose(&pruned(&graph, 90), Vectors::Avx512, &Selection::Always(Algorithm::Dense));
        assert!(choices.iter().all(|choice| (choice.chosen, choice.reason) == (Algorithm::Dense, Reason::Admitted)));
        assert_eq!(modelled.chosen, modelled.dense, "{name}");
    }
    for name in TRAINED {
        let path = root().join("models").join(format!("{name}.onnx"));
        check(name, &simplified(optc::load(&path).unwrap_or_else(|e| panic!("{name}: {e}"))));
    }
}

/// A convolution of one pixel by 256×128 weights, and a layer of 1024×1024, that share so many values.
fn clustered(values: usize) -> [Graph; 2] {
    let weights = |shape: &[usize]| {
        let numbers = (0..shape.iter().product()).map(|i: usize| (i * 7 % values) as f32 * 0.1 + 0.1);
        let tensor = Tensor::f32(shape, numbers.collect::<Vec<f32>>());
        Op::Const(Constant::encode(&tensor, &Form::Clustered).expect("values are few").into())
    };
    let graph = GraphBuilder::new("convolution");
    let x = graph.input("x", DType::F32, [1, 256, 14, 14]);
    let y = x.conv(graph.op(weights(&[128, 256, 1, 1]), &[]), None, Conv::default()).named("layer").id();
    let convolution = graph.finish(&[("y", y)]);
    let graph = GraphBuilder::new("linear");
    let x = graph.input("x", DType::F32, [1, 1024]);
    let y = x.with(Linear::default(), &[Some(graph.op(weights(&[1024, 1024]), &[])), None]).named("layer").id();
    [convolution, graph.finish(&[("y", y)])]
}

/// Layers of few values are a choice like others: named with what else there was, and open to measurement.
#[test]
fn codes_are_candidates() {
    for (values, in_convolution) in [(3, Algorithm::Codes), (100, Algorithm::Dense)] {
        for (graph, expected) in clustered(values).into_iter().zip([in_convolution, Algorithm::Codes]) {
            let one = |selection| {
                let (mut choices, modelled) = choose(&graph, Vectors::Avx512, &selection);
                assert_eq!(choices.len(), 1, "{choices:?}");
                (choices.remove(0), modelled)
            };
            let (choice, modelled) = one(Selection::Modelled);
            assert_eq!((choice.chosen, choice.reason), (expected, Reason::Fewest), "{values} values: {choice}");
            let [codes, dense] =
                [Algorithm::Codes, Algorithm::Dense].map(|algorithm| choice.cycles(algorithm).unwrap());
            assert_eq!((modelled.chosen, modelled.dense), (codes.min(dense), dense), "{choice}");
            for asked in [Algorithm::Codes, Algorithm::Dense] {
                let (choice, _) = one(Selection::Always(asked));
                assert_eq!((choice.chosen, choice.reason), (asked, Reason::Admitted), "{choice}");
                let mut measured = Measured::default();
                for other in [Algorithm::Codes, Algorithm::Dense] {
                    measured.add(&choice.layer, other, if other == asked { 1.0 } else { 2.0 });
                }
                let (choice, _) = one(Selection::Measured(Arc::new(measured)));
                assert_eq!((choice.chosen, choice.reason), (asked, Reason::Measured), "{choice}");
            }
        }
    }
}
