//! Containers give back what they were given, in few bytes, and refuse everything else.

use std::sync::Arc;

use optc_ir::graph::Origin;
use optc_ir::op::{Elu, Opaque, Split, Unary};
use optc_ir::{Constant, DType, Data, Dim, Form, Graph, Op, PatternForm, QuantParams, Tensor, Type};
use prost::Message;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Roughly normal numbers, rounded to multiples of `step`.
fn normal(rng: &mut ChaCha8Rng, len: usize, step: f32) -> Vec<f32> {
    let one = |_| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
    (0..len).map(one).map(|x| (x / step).round() * step).collect()
}

fn pruned(rng: &mut ChaCha8Rng, len: usize, density: f64, step: f32) -> Vec<f32> {
    let values = normal(rng, len, step);
    values.into_iter().map(|x| if rng.random_bool(density) { x } else { 0.0 }).collect()
}

fn encode(shape: &[usize], v: Vec<f32>, form: &Form) -> Constant {
    Constant::encode(&Tensor::f32(shape, v), form).expect("the form holds the elements")
}

/// A constant in every form, of many types and sizes.
fn constants() -> Vec<Constant> {
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let sparse = |pattern, values: &Form| Form::Sparse(pattern, Box::new(values.clone()));
    let grid = |axis, n| QuantParams { bits: 4, axis, scales: vec![0.25; n], zeros: vec![8.0; n] };
    let mut constants = Vec::new();
    for pattern in [
        PatternForm::Bitmap,
        PatternForm::Csr,
        PatternForm::Relative(3),
        PatternForm::Relative(8),
        PatternForm::Relative(13),
        PatternForm::Block(4, 3),
    ] {
        for density in [0.0, 0.01, 0.3, 0.97] {
            let v = pruned(rng, 64 * 99, density, 0.25);
            constants.push(encode(&[64, 11, 9], v.clone(), &sparse(pattern.clone(), &Form::Dense)));
            constants.push(encode(&[64, 11, 9], v, &sparse(pattern.clone(), &Form::Clustered)));
        }
    }
    for (n, m) in [(1, 4), (2, 4), (4, 8), (8, 16), (20, 40), (3, 3)] {
        let v = normal(rng, 480 * 7, 0.25);
        let v = v.chunks(m).flat_map(|group| (0..m).map(|i| if i < n { group[i] } else { 0.0 })).collect();
        let on_grid = |x: f32| x.clamp(-2.0, 1.75);
        let v: Vec<f32> = v;
        let v: Vec<f32> = v.into_iter().map(on_grid).map(|x| if x == 0.0 { 0.0 } else { x }).collect();
        let form = sparse(PatternForm::NofM(n, m), &Form::Quantized(grid(None, 1)));
        constants.push(encode(&[7, 480], v, &form));
    }
    for (axis, n) in [(None, 1), (Some(0), 20), (Some(1), 30)] {
        let v: Vec<f32> = (0..600).map(|_| f32::from(rng.random_range(-8i8..8)) * 0.25).collect();
        constants.push(encode(&[20, 30], v.clone(), &Form::Quantized(grid(axis, n))));
        constants.push(encode(&[20, 30], v, &sparse(PatternForm::Bitmap, &Form::Quantized(grid(axis, n)))));
    }
    for k in [1, 2, 3, 16, 200, 256, 257, 1000, 4096, 4097, 20_000] {
        let v: Vec<f32> =
            (0..30_000).map(|i| if i < k { i } else { rng.random_range(0..k) }).map(|i| i as f32).collect();
        constants.push(encode(&[30_000], v, &Form::Clustered));
    }
    for &dtype in DType::ALL {
        for shape in [vec![], vec![0, 3], vec![7], vec![3000]] {
            let len = shape.iter().product();
            let v: Vec<i64> = (0..len).map(|_| rng.random_range(-8..8)).collect();
            let tensor = Tensor::new(shape, Data::from_i64(dtype, v));
            constants.push(Constant::encode(&tensor, &Form::Clustered).expect("clustering holds everything"));
            constants.push(Constant::dense(tensor));
        }
    }
    let noise: Vec<u8> = (0..20_000).map(|_| rng.random()).collect();
    constants.push(Constant::dense(Tensor::new([20_000], Data::U8(noise))));
    constants.push(Constant::dense(Tensor::f32([200, 100], normal(rng, 20_000, 1e-7))));
    constants.push(encode(&[1200, 1000], normal(rng, 1_200_000, 0.02), &Form::Clustered));
    constants.push(encode(
        &[1200, 1000],
        pruned(rng, 1_200_000, 0.002, 0.1),
        &sparse(PatternForm::Bitmap, &Form::Clustered),
    ));
    constants
}

fn graph_of(constants: Vec<Constant>) -> Graph {
    let mut graph = Graph::new("constants");
    for (i, constant) in constants.into_iter().enumerate() {
        let node = graph.add_constant(&format!("c{i}"), constant);
        graph.add_result(&format!("r{i}"), node.into());
    }
    graph
}

/// A graph of everything but constants: symbols, attributes, opaque nodes, several results, absent operands,
/// odd names, dead nodes, an origin.
fn odd_graph() -> Graph {
    let mut graph = Graph::new("a \"name\" // of 神経");
    graph.origin = Some(Arc::new(Origin { format: "onnx".to_owned(), header: vec![1, 2, 3] }));
    let x = graph.add_input("x", Type::tensor(DType::F32, [Dim::sym("N"), Dim::Fixed(4), Dim::Any]));
    graph.add_input("unused one", Type::Unknown);
    let y = graph.add_input("y", Type::tensor(DType::F32, [Dim::Fixed(6), Dim::sym("N")]));
    let elu = graph.add("elu", Elu { alpha: 0.1 }, &[Some(x.into())]).expect("elu takes any shape");
    let relu = graph.add("/a/b:0", Op::Unary(Unary::Relu), &[Some(elu.into())]).expect("relu takes any shape");
    let split = Split { sizes: vec![1, 2, 3], ..Split::default() };
    let split = graph.add("split", split, &[Some(y.into())]).expect("the sizes add up to 6");
    let opaque = Opaque {
        domain: "com.example".to_owned(),
        op_type: "Odd".to_owned(),
        results: vec![Type::Unknown, Type::tensor(DType::BF16, [Dim::sym("M")]), Type::tensor(DType::Bool, [0; 0])],
        payload: (0..=255).collect(),
    };
    let operands = [None, Some(split.result(2)), Some(x.into()), Some(x.into())];
    let opaque = graph.add("odd", Op::Opaque(Arc::new(opaque)), &operands).expect("opaque nodes take anything");
    graph.add("dead", Op::Unary(Unary::Abs), &[Some(relu.into())]).expect("abs takes any shape");
    graph.add_result("a", opaque.result(2));
    graph.add_result("b", relu.into());
    graph.add_result("x again", x.into());
    graph
}

fn pack(graph: &Graph) -> (Vec<u8>, PackReport) {
    write(graph, &PackOptions::default()).expect("the graph is valid")
}

#[test]
fn every_encoding_comes_back() {
    let graph = graph_of(constants());
    let (bytes, report) = pack(&graph);
    assert_eq!(read(&bytes).as_ref(), Ok(&graph));
    assert_eq!(pack(&graph).0, bytes, "writing is deterministic");
    assert_eq!(report.file_bytes, bytes.len());
    for constant in &report.constants {
        let parts = constant.codes.bytes + constant.positions.bytes + constant.table_bytes;
        assert_eq!(constant.bytes, parts, "{} {}", constant.name, constant.form);
        for part in [&constant.codes, &constant.positions] {
            let coded = (part.bytes - part.overhead_bytes) as f64;
            let about = 1.02 * part.entropy_bits / 8.0 + 8.0 * part.coders.len() as f64 + 8.0;
            let plain = part.coders.contains(&"packed") || part.coders.contains(&"raw");
            assert!(
                coded <= about || plain && part.bytes <= part.packed_bytes + 16,
                "{} {}: {part:?}",
                constant.name,
                constant.form
            );
        }
    }
}

#[test]
fn graphs_come_back_with_origin_and_provenance() {
    let graph = odd_graph();
    let options = PackOptions { pipeline: "encode-weights".to_owned(), seed: Some(7) };
    let (bytes, _) = write(&graph, &options).expect("the graph is valid");
    let back = read(&bytes).expect("it was just written");
    assert_eq!(back, graph);
    assert_eq!(back.origin, graph.origin);
    let order = |graph: &Graph| graph.topo_order().iter().map(|&n| graph.name(n).to_owned()).collect::<Vec<_>>();
    assert_eq!(pack(&back).0.len(), pack(&graph).0.len());
    assert_eq!(order(&read(&pack(&back).0).expect("it was just written")), order(&back));
    let provenance = provenance(&bytes).expect("it was just written");
    assert_eq!((provenance.pipeline.as_str(), provenance.seed), ("encode-weights", Some(7)));
    assert_eq!(provenance.version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn equal_constants_are_stored_once() {
    let constant = Constant::dense(Tensor::f32([1000], normal(&mut ChaCha8Rng::seed_from_u64(2), 1000, 1e-6)));
    let one = pack(&graph_of(vec![constant.clone()])).0.len();
    let graph = graph_of(vec![constant; 10]);
    let (bytes, report) = pack(&graph);
    assert!(bytes.len() < one + 300, "{one} {}", bytes.len());
    assert_eq!(report.constants.len(), 1);
    assert_eq!(read(&bytes), Ok(graph));
}

#[test]
fn codes_take_their_entropy() {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    for (len, step) in [(1_000_000, 0.02), (100_000, 0.1), (20_000, 0.5)] {
        let graph = graph_of(vec![encode(&[len], normal(rng, len, step), &Form::Clustered)]);
        let (_, report) = pack(&graph);
        let codes = &report.constants[0].codes;
        let bytes = codes.entropy_bits / 8.0;
        assert!(codes.bytes as f64 <= 1.01 * bytes + 100.0, "{} of {bytes}", codes.bytes);
        assert!(codes.bytes <= codes.huffman_bytes && codes.huffman_bytes <= codes.packed_bytes + 1);
        assert!(codes.entropy_bits / 8.0 <= codes.huffman_bytes as f64);
    }
}

#[test]
fn small_models_are_small() {
    // The weights of a LeNet for 16 × 16 digits at four bits each.
    let rng = &mut ChaCha8Rng::seed_from_u64(4);
    let mut graph = Graph::new("lenet");
    let mut params = 0;
    for (name, shape) in
        [("Parameter5", vec![8, 1, 5, 5]), ("Parameter87", vec![16, 8, 5, 5]), ("Parameter193", vec![10, 256])]
    {
        let len = shape.iter().product();
        params += len;
        let v = normal(rng, len, 0.4).into_iter().map(|x| x.clamp(-2.8, 2.8)).collect();
        let node = graph.add_constant(name, encode(&shape, v, &Form::Clustered));
        graph.add_result(name, node.into());
    }
    let (bytes, report) = pack(&graph);
    let entropy: f64 = report.constants.iter().map(|c| c.codes.entropy_bits / 8.0).sum();
    assert!((bytes.len() as f64) < entropy + 420.0, "{} bytes, {entropy} of entropy: {report:?}", bytes.len());
    assert!(bytes.len() * 8 < 4 * params);
}

#[test]
fn what_shrinks_too_much_is_padded() {
    let graph = graph_of(vec![Constant::dense(Tensor::f32([30 << 20], vec![0.0; 30 << 20]))]);
    let (bytes, _) = pack(&graph);
    assert!((200_000..1_000_000).contains(&bytes.len()), "{}", bytes.len());
    assert_eq!(read(&bytes), Ok(graph));
    let short = &bytes[..bytes.len() - 50_000];
    assert!(matches!(read(short), Err(PackError::Limit { what: "constants", .. })));
}

#[test]
fn graphs_that_a_container_cannot_hold_are_refused() {
    let graph = graph_of(vec![Constant::dense(Tensor::new([2], Data::I4(vec![1, 100])))]);
    assert!(matches!(write(&graph, &PackOptions::default()), Err(PackError::Unsupported { .. })));
    let text = "graph @g() -> (r: f32[2]) {\n  %c = const f32[2] #01234567\n  return %c\n}\n";
    let graph = optc_ir::text::parse(text).expect("the text is a graph");
    let error = write(&graph, &PackOptions::default()).expect_err("the elements are not known");
    assert_eq!(error.to_string(), "node c: the elements of the constant are known only by their hash");
}

#[test]
fn other_files_and_versions_are_refused() {
    let (mut bytes, _) = pack(&odd_graph());
    for other in [&b""[..], b"\x08\x07\x12", b"\x89PNG\r\n\x1a\n", b"\x89OPTX\r\n\x1a"] {
        assert_eq!(read(other), Err(PackError::NotOptc));
    }
    bytes[8] = 9;
    assert_eq!(read(&bytes), Err(PackError::Version { found: 9 }));
    let message = read(&bytes).expect_err("the version is refused").to_string();
    assert_eq!(message, "written in version 9 of the .optc format, and this program reads version 1 alone");
}

/// What a container is made of, to be tampered with.
#[derive(Clone)]
struct Parts {
    manifest: schema::Manifest,
    nodes: Vec<u8>,
    sections: Vec<Vec<u8>>,
}

impl Parts {
    fn of(graph: &Graph) -> Parts {
        let (bytes, _) = pack(graph);
        let opened = read::Opened::new(&bytes).expect("it was just written");
        let sections = read::sections(&opened, &bytes).expect("it was just written");
        let sections = sections.into_iter().map(<[u8]>::to_vec).collect();
        Parts { manifest: opened.manifest, nodes: opened.nodes, sections }
    }

    /// The container, with checksums that match.
    fn seal(mut self) -> Vec<u8> {
        for (section, bytes) in self.manifest.sections.iter_mut().zip(&self.sections) {
            (section.len, section.checksum) = (bytes.len() as u64, xxhash_rust::xxh3::xxh3_64(bytes));
        }
        let mut manifest = self.manifest.encode_length_delimited_to_vec();
        manifest.append(&mut self.nodes);
        write::assemble(&manifest, &self.manifest.sections, &mut self.sections).expect("the parts are small")
    }
}

/// Changes a few bytes, cuts some out or doubles some.
fn mutate(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.random_range(0..bytes.len());
        let end = (at + rng.random_range(1..9)).min(bytes.len());
        match rng.random_range(0..6) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
            2 => bytes[at..end].fill([0, 0x7f, 0xff][rng.random_range(0..3)]),
            3 => bytes[at] = bytes[at].wrapping_add(1),
            _ => bytes[at] ^= 1 << rng.random_range(0..8),
        }
    }
}

fn small_constants() -> Vec<Constant> {
    constants().into_iter().filter(|constant| constant.len() < 7000).step_by(3).collect()
}

#[test]
fn damaged_files_are_refused() {
    let rng = &mut ChaCha8Rng::seed_from_u64(5);
    let (bytes, _) = pack(&graph_of(small_constants()));
    for end in (0..bytes.len()).step_by(97) {
        assert!(read(&bytes[..end]).is_err(), "cut at {end}");
    }
    for _ in 0..3000 {
        let mut mutated = bytes.clone();
        mutate(&mut mutated, rng);
        assert!(mutated == bytes || read(&mutated).is_err());
    }
}

#[test]
fn hostile_payloads_give_errors_or_constants() {
    let rng = &mut ChaCha8Rng::seed_from_u64(6);
    let mut refused = 0;
    for constant in small_constants() {
        let parts = Parts::of(&graph_of(vec![constant]));
        for _ in 0..60 {
            let mut parts = parts.clone();
            let at = rng.random_range(0..parts.sections.len());
            mutate(&mut parts.sections[at], rng);
            match read(&parts.seal()) {
                Ok(graph) => assert_eq!(read(&pack(&graph).0), Ok(graph)),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn hostile_manifests_give_errors_or_graphs() {
    let rng = &mut ChaCha8Rng::seed_from_u64(7);
    let mut graph = odd_graph();
    for (i, constant) in small_constants().into_iter().step_by(5).enumerate() {
        graph.add_constant(&format!("c{i}"), constant);
    }
    let parts = Parts::of(&graph);
    let mut refused = 0;
    for _ in 0..3000 {
        let mut parts = parts.clone();
        if rng.random_bool(0.5) {
            mutate(&mut parts.nodes, rng);
        } else {
            let mut manifest = parts.manifest.encode_to_vec();
            mutate(&mut manifest, rng);
            match schema::Manifest::decode(&*manifest) {
                Ok(manifest) => parts.manifest = manifest,
                Err(_) => continue,
            }
        }
        match read(&parts.seal()) {
            Ok(graph) => assert_eq!(read(&pack(&graph).0), Ok(graph)),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn absurd_declarations_are_refused_before_they_cost_anything() {
    let parts = Parts::of(&graph_of(vec![encode(&[100], vec![1.0; 100], &Form::Clustered)]));
    let with = |change: &dyn Fn(&mut Parts)| {
        let mut parts = parts.clone();
        change(&mut parts);
        read(&parts.seal()).expect_err("the declaration is absurd")
    };
    let shape = |shape: Vec<u64>| with(&|parts| parts.manifest.constants[0].shape = shape.clone());
    assert!(matches!(shape(vec![1 << 39]), PackError::Limit { what: "constants", .. }));
    assert!(matches!(shape(vec![1 << 60]), PackError::Damaged(_)));
    assert!(matches!(shape(vec![0, 1 << 62]), PackError::Damaged(_)));
    assert!(matches!(with(&|parts| parts.manifest.nodes = u64::MAX), PackError::Limit { what: "nodes", .. }));
    let deep = |depth: usize| {
        let mut value = schema::Value { kind: Some(schema::ValueKind::Int(1)) };
        for _ in 0..depth {
            value = schema::Value {
                kind: Some(schema::ValueKind::List(schema::List { items: vec![value], ints: vec![] })),
            };
        }
        let attrs = vec![schema::Attr { key: "alpha".to_owned(), value: Some(value) }];
        schema::Node { name: "n".to_owned(), op: "elu".to_owned(), attrs, ..schema::Node::default() }
    };
    let error = with(&|parts| parts.nodes = deep(5000).encode_length_delimited_to_vec());
    assert!(matches!(error, PackError::Damaged(_)), "{error}");
    let (bytes, _) = pack(&graph_of(vec![]));
    let mut huge = bytes.clone();
    huge[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    let checked = [&huge[8..20], &huge[HEADER..]].concat();
    huge[20..28].copy_from_slice(&xxhash_rust::xxh3::xxh3_64(&checked).to_le_bytes());
    assert!(matches!(read(&huge), Err(PackError::Limit { .. } | PackError::Damaged(_))));
}
