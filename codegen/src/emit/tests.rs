use std::sync::Arc;

use cranelift_codegen::isa;
use cranelift_codegen::settings::Configurable;

use super::*;
use crate::lower::functions;
use crate::tile::contract::{Code, Contract, Listed, Picked, Run, Signs, Tiling, Weights};
use crate::tile::depthwise::Depthwise;
use crate::tile::depthwise_codes::DepthwiseCodes;
use crate::tile::epilogue::{Epilogue, Other, Strides};
use crate::tile::function::Function as Elementwise;
use crate::tile::map::{Map, MapOther};
use crate::tile::rows::{RowAxis, RowFunction, Rows};
use crate::tile::schedule::Axis;
use crate::tile::sign_bits::SignBits;
use crate::tile::spmm::{Codes, Matrix, Operand, Planes, Spmm};
use crate::tile::spmm_unrolled::{Pattern, Unrolled};
use crate::tile::spmv::{self, Spmv};
use crate::tile::{LANES, VECTOR_BYTES};
use crate::work::Work;

/// Layers of text below the schedule.
const LAYERS: &[&str] = &["schedule", "clif", "aarch64", "x86-64", "x86-64-v3", "icelake"];

/// Two rows and three columns of points by a block of outputs, two values of k.
fn contract() -> Work {
    let (row, column) = (24, 8);
    let block = 4 * LANES as i64;
    let contract = Contract {
        images: 1,
        groups: 1,
        outputs: LANES,
        rows: 2,
        columns: 3,
        runs: vec![Run { start: 0, loops: vec![], taps: vec![0, 4] }],
        x: Strides { row, column, ..Strides::default() },
        y: Strides { row: 3 * block, column: block, ..Strides::default() },
        whole_blocks: true,
        weights: Weights::Packed,
        epilogue: Epilogue { bias: true, ..Epilogue::default() },
        tiling: Tiling { blocks: 1, rows: 2, columns: 3 },
    };
    contract.into()
}

/// Two columns of points by two blocks of outputs that share a list of places of x.
fn listed() -> Work {
    let listed = Listed { nonzeros: 40, words: 100, span: (0, 60), ways: 1, points_first: true };
    let block = 4 * LANES as i64;
    let contract = Contract {
        images: 1,
        groups: 1,
        outputs: 2 * LANES,
        rows: 1,
        columns: 2,
        runs: Vec::new(),
        x: Strides { column: block, ..Strides::default() },
        y: Strides { column: block, block: 2 * block, ..Strides::default() },
        whole_blocks: true,
        weights: Weights::Listed(listed),
        epilogue: Epilogue { bias: true, ..Epilogue::default() },
        tiling: Tiling { blocks: 2, rows: 1, columns: 2 },
    };
    contract.into()
}

/// Two points by a block of outputs that have two weights of four each.
fn picked() -> Work {
    let contract = Contract {
        images: 1,
        groups: 1,
        outputs: LANES,
        rows: 1,
        columns: 2,
        runs: vec![Run { start: 0, loops: vec![], taps: vec![0, 4, 8, 12] }],
        x: Strides { column: 16, ..Strides::default() },
        y: Strides { column: 4 * LANES as i64, ..Strides::default() },
        whole_blocks: true,
        weights: Weights::Picked(Picked { nonzeros: 32, slots: 2 }),
        epilogue: Epilogue { bias: true, ..Epilogue::default() },
        tiling: Tiling { blocks: 1, rows: 1, columns: 2 },
    };
    contract.into()
}

/// A row of a matrix by a block of outputs, so many values of k a tap apart.
fn row(weights: Weights, taps: Vec<i64>) -> Work {
    let contract = Contract {
        images: 1,
        groups: 1,
        outputs: LANES,
        rows: 1,
        columns: 1,
        runs: vec![Run { start: 0, loops: vec![], taps }],
        x: Strides::default(),
        y: Strides::default(),
        whole_blocks: true,
        weights,
        epilogue: Epilogue { bias: true, ..Epilogue::default() },
        tiling: Tiling { blocks: 1, rows: 1, columns: 1 },
    };
    contract.into()
}

/// Two weights of a codebook of sixteen.
fn clustered() -> Work {
    row(Weights::Coded(Code { values: 16, integers: false, scaled: false }), vec![0, 4])
}

/// Four weights of a codebook of a hundred.
fn clustered_bytes() -> Work {
    row(Weights::Coded(Code { values: 100, integers: false, scaled: false }), vec![0, 4, 8, 12])
}

/// Two weights on a grid.
fn grid() -> Work {
    row(Weights::Coded(Code { values: 200, integers: true, scaled: true }), vec![0, 4])
}

/// Four ternary weights: a code of three, and one of what is left.
fn ternary() -> Work {
    row(Weights::Coded(Code { values: 3, integers: false, scaled: true }), vec![0, 4, 8, 12])
}

/// One word of signs.
fn signs() -> Work {
    row(Weights::Signs(Signs { weights: 32, count: 8, window: [(1, 0); 2] }), vec![0])
}

/// Signs of twenty channels.
fn sign_bits() -> Work {
    let x = Strides { block: 64, ..Strides::default() };
    SignBits { images: 1, rows: 1, columns: 1, channels: 20, x, y: Strides::default() }.into()
}

/// A row of three pixels, three taps.
fn depthwise() -> Work {
    let column = i64::try_from(VECTOR_BYTES).expect("few bytes");
    let depthwise = Depthwise {
        images: 1,
        blocks: 2,
        rows: 1,
        columns: 3,
        kernel: [1, 3],
        tap: [5 * column, column],
        x: Strides { block: 5 * column, row: 5 * column, column, ..Strides::default() },
        y: Strides { block: 3 * column, row: 3 * column, column, ..Strides::default() },
        epilogue: Epilogue::default(),
    };
    depthwise.into()
}

/// Three points by a block of outputs, two quads of codes, made codes again.
fn contract_codes() -> Work {
    let column = 8;
    let contract = Contract {
        images: 1,
        groups: 1,
        outputs: LANES,
        rows: 1,
        columns: 3,
        runs: vec![Run { start: 0, loops: vec![], taps: vec![0, 4] }],
        x: Strides { column, ..Strides::default() },
        y: Strides { column: 16, ..Strides::default() },
        whole_blocks: true,
        weights: Weights::Quads { summed: 8 },
        epilogue: Epilogue {
            bias: true,
            steps: vec![(Elementwise::Mul, Other::Vector(0))],
            operands: vec![Strides { block: 64, ..Strides::default() }],
            integers: true,
            codes: Some(3),
        },
        tiling: Tiling { blocks: 1, rows: 1, columns: 3 },
    };
    contract.into()
}

/// A row of two pixels of codes, three taps.
fn depthwise_codes() -> Work {
    let depthwise = DepthwiseCodes {
        images: 1,
        blocks: 1,
        rows: 1,
        columns: 2,
        kernel: [1, 3],
        tap: 64,
        x: Strides { block: 64, row: 64, column: 16, ..Strides::default() },
        y: Strides { block: 32, row: 32, column: 16, ..Strides::default() },
        epilogue: Epilogue { integers: true, codes: Some(0), ..Epilogue::default() },
    };
    depthwise.into()
}

/// Two rows with three weights over planes of two vectors that end within the second.
fn planes() -> (Planes, Matrix, Vec<i32>) {
    let channel = 128;
    let mut planes = Planes::new([1, 2, 4, 5]);
    (planes.vectors, planes.masked, planes.y.channel) = (2, true, channel);
    planes.steps = vec![(Elementwise::Relu, Other::None)];
    let weights = [0.5, 0.0, -1.0, 2.0, 0.0, 0.0];
    let offsets = vec![-4, 0, 128];
    (planes, Matrix::new(2, |row| (0, &weights[row * 3..][..3])), offsets)
}

fn spmm() -> Work {
    let (planes, _, offsets) = planes();
    Spmm { planes, nonzeros: 3, offsets: (offsets[0], offsets[2]), segments: 1, chunk: 2, ways: 2 }.into()
}

fn unrolled() -> Work {
    let (planes, matrix, offsets) = planes();
    Unrolled { planes, pattern: Arc::new(Pattern::new(&matrix, offsets)), group: 2, chunks: 1, panel: None, cold: true }
        .into()
}

/// Four rows with three quads of weights over planes of a vector that ends within, made codes again.
fn unrolled_codes() -> Work {
    let mut planes = Planes::new([1, 4, 1, 13]);
    (planes.vectors, planes.masked, planes.y.channel) = (1, true, 64);
    (planes.codes, planes.operands) = (Some(Codes { zero: 3, large: false }), vec![Operand::Channel]);
    planes.steps = vec![(Elementwise::Mul, Other::Vector(0))];
    let quads = [[1, 0, 0, -2], [0; 4], [0, 3, 0, 0], [0; 4], [0; 4], [0; 4], [0; 4], [5, 6, 7, 8]];
    let matrix = Matrix::of_quads(4, |row| (0, quads[row * 2..][..2].iter().copied()));
    let pattern = Arc::new(Pattern::new(&matrix, vec![-4, 64]));
    Unrolled { planes, pattern, group: 4, chunks: 1, panel: None, cold: false }.into()
}

/// Three outputs of seven weights by a row of 40.
fn spmv() -> Work {
    let weights: Vec<f32> = (0..120).map(|i| if i % 17 == 0 { i as f32 } else { 0.0 }).collect();
    let matrix = Matrix::new(3, |o| (0, &weights[o * 40..][..40]));
    let spmv = Spmv {
        rows: [Axis::new(1, [0]); 2],
        outputs: 3,
        block: 64,
        depth: 40,
        nonzeros: 7,
        form: spmv::Form::Numbers,
        groups: spmv::groups(&matrix, 40, spmv::Form::Numbers),
        threads: 1,
        steps: vec![(Elementwise::Relu, Other::None)],
        operands: 0,
    };
    spmv.into()
}

/// ReLU of rows that end within a vector.
fn relu() -> Work {
    Map::new(&[2, 19], &[80, 4], &[vec![76, 4]], vec![(Elementwise::Relu, MapOther::None)]).into()
}

/// Softmax of rows shorter than a vector.
fn softmax() -> Work {
    let axes = vec![RowAxis { count: 3, x: 20, y: 20, mask: 0 }];
    Rows { function: RowFunction::Softmax { scale: 1.0, mask: false }, length: 5, axes }.into()
}

/// A machine other than the host, or the host's architecture with the same features everywhere.
fn machine(name: &str, features: &[&str]) -> isa::OwnedTargetIsa {
    let mut builder = isa::lookup_by_name(name).expect("tests are built for these architectures");
    features.iter().for_each(|feature| builder.enable(feature).expect("the architecture has this"));
    functions::isa(builder).expect("the settings are those of the host")
}

fn text(work: &Work, layer: &str) -> String {
    let x64 = machine("x86_64", &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_avx", "has_avx2", "has_fma"]);
    let asm = |vectors, isa: &dyn TargetIsa| {
        asm_of(&work.schedule(vectors), vectors, isa).expect("all programs can be compiled")
    };
    match layer {
        "schedule" => work.schedule(Vectors::Avx512).to_string(),
        "clif" => clif_of(&work.schedule(Vectors::Clif), Vectors::Clif, &*x64),
        "aarch64" => asm(Vectors::Clif, &*machine("aarch64", &[])),
        "x86-64" => asm(Vectors::Clif, &*x64),
        "x86-64-v3" => asm(Vectors::Avx2, &*x64),
        _ => asm(Vectors::Avx512, &*x64),
    }
}

#[test]
fn code_is_as_it_was() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut names = Vec::new();
    let cases = [
        ("contract_2x3", contract()),
        ("contract_codes_3", contract_codes()),
        ("depthwise_codes_row", depthwise_codes()),
        ("depthwise_row", depthwise()),
        ("relu", relu()),
        ("softmax_5", softmax()),
        ("clustered_2", clustered()),
        ("clustered_bytes_4", clustered_bytes()),
        ("grid_2", grid()),
        ("ternary_4", ternary()),
        ("signs_32", signs()),
        ("sign_bits_20", sign_bits()),
        ("listed_32x2", listed()),
        ("picked_16x2", picked()),
        ("spmm_2", spmm()),
        ("spmm_jit_2", unrolled()),
        ("spmm_jit_codes_4", unrolled_codes()),
        ("spmv_3", spmv()),
    ];
    for (case, work) in cases {
        // Other targets look up no bytes.
        let is_written = |layer: &&str| case != "clustered_bytes_4" || ["schedule", "icelake"].contains(layer);
        for layer in LAYERS.iter().copied().filter(is_written) {
            let name = format!("{case}.{layer}");
            settings.bind(|| insta::assert_snapshot!(name.as_str(), text(&work, layer)));
            names.push(format!("{name}.snap"));
        }
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/emit/snapshots");
    let entries = std::fs::read_dir(folder).expect("snapshots are there").filter_map(Result::ok);
    let mut found: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    found.sort();
    names.sort();
    assert_eq!(found, names, "every snapshot is of a case");
}
