//! Runs in a row take no memory: counted by the allocator of this test, which has a program of its own.
#![allow(unsafe_code, reason = "an allocator can't be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use optc::data::random_inputs;
use optc::{CompileOptions, Model};
use optc_codegen::Jit;
use optc_ir::text::parse;
use optc_ir::{Backend, Data, Interp, Tensor};

/// The system's allocator, counting how often it is asked.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller vouches that `alloc` gave the memory for this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn runs_in_a_row_take_no_memory() {
    models_take_no_memory();
    gathers_and_conversions_take_no_memory();
}

/// Steps without generated code that move or convert elements.
fn gathers_and_conversions_take_no_memory() {
    let text = "graph @g(%ids: i32[3, 5], %x: f32[3, 5, 4]) -> (y: f32[3, 5, 4], z: f32[3, 5]) {
  %table = const f32[7, 4] = normal(seed=1, std=1)
  %rows = gather(%table, %ids)
  %y = add(%rows, %x)
  %z = cast(%ids)
  return %y, %z
}";
    let graph = parse(text).unwrap();
    let inputs = [
        Tensor::new([3, 5], Data::I32((0..15).map(|i| i % 14 - 7).collect())),
        Tensor::f32([3, 5, 4], (0..60u8).map(f32::from).collect::<Vec<f32>>()),
    ];
    let expected = Interp.compile(&graph).unwrap().run(&inputs).unwrap();
    let mut compiled = Jit::new(1).compile(&graph).unwrap();
    let mut results = compiled.run(&inputs).unwrap();
    let before = ASKED.load(Ordering::Relaxed);
    for _ in 0..10 {
        compiled.run_into(&inputs, &mut results).unwrap();
    }
    assert_eq!(ASKED.load(Ordering::Relaxed) - before, 0);
    assert_eq!(results, expected);
}

fn models_take_no_memory() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for (name, threads) in [("mnist_cntk.onnx", 1), ("mnist_cntk.onnx", 2), ("ppocr_cls.onnx", 1)] {
        let model = Model::load(models.join(name)).unwrap();
        let (inputs, _) = random_inputs(&model.graph, 1).unwrap();
        let mut compiled = model.compile(&CompileOptions { threads, ..CompileOptions::default() }).unwrap();
        let expected = compiled.run_in_order(&inputs).unwrap();
        let mut results = expected.clone();
        compiled.run_into(&inputs, &mut results).unwrap();
        let before = ASKED.load(Ordering::Relaxed);
        for _ in 0..10 {
            compiled.run_into(&inputs, &mut results).unwrap();
        }
        assert_eq!(ASKED.load(Ordering::Relaxed) - before, 0, "{name} on {threads} threads");
        assert_eq!(results, expected, "{name}");
        assert!(compiled.run_into(&inputs, &mut results[..0]).is_err(), "there is a tensor for every result");
    }
}
