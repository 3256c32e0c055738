//! Writing containers.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use optc_ir::graph::MAX_SLOTS;
use optc_ir::verify::verify;
use optc_ir::{Constant, Data, Encoding, Graph, NodeId, Op, ValueId};
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::payload::{self, Written};
use super::report::PackReport;
use super::types::{Symbols, value_message};
use super::{ALIGNMENT, Budget, HEADER, MAGIC, PackError, PackOptions, VERSION};
use super::{manifest_limit, node_limit, parallel, schema};

/// Payloads below this share a section.
const SHARED_BELOW: usize = 4096;

/// The bytes of a container that holds the graph, and what they are.
///
/// # Errors
/// [`PackError::Invalid`] if the graph breaks an invariant, [`PackError::Unsupported`] if the elements of a
/// constant are known only by a hash or do not fit their type.
pub fn write(graph: &Graph, options: &PackOptions) -> Result<(Vec<u8>, PackReport), PackError> {
    verify(graph)?;
    let (mut constants, numbers) = constants(graph)?;
    let mut sections = sections(&mut constants);
    let messages = constants.iter().map(|constant| constant.message.clone()).collect();
    let manifest = manifest(graph, options, &numbers, messages, &sections.table)?;
    let mut file = assemble(&manifest, &sections.table, &mut sections.bytes)?;
    pad(&mut file, &constants, graph);
    let mut report = PackReport { file_bytes: file.len(), ..PackReport::default() };
    report.manifest_bytes = u32::from_le_bytes(file[12..16].try_into().expect("the header is longer")) as usize;
    report.constants = constants.into_iter().map(|constant| constant.report).collect();
    report.framing_bytes = file.len() - report.manifest_bytes - report.weight_bytes();
    Ok((file, report))
}

/// Header, manifest and sections, one after the other; takes the bytes of the sections away.
pub(super) fn assemble(
    manifest: &[u8],
    table: &[schema::Section],
    sections: &mut [Vec<u8>],
) -> Result<Vec<u8>, PackError> {
    let stored = deflate(manifest);
    let mut file =
        Vec::with_capacity(HEADER + stored.len() + sections.iter().map(|s| s.len() + ALIGNMENT).sum::<usize>());
    file.extend_from_slice(&MAGIC);
    file.extend_from_slice(&VERSION.to_le_bytes());
    for len in [stored.len(), manifest.len()] {
        let len =
            u32::try_from(len).map_err(|_| limit("names, attributes and opaque nodes", len, u32::MAX as usize))?;
        file.extend_from_slice(&len.to_le_bytes());
    }
    let mut checked = file[MAGIC.len()..].to_vec();
    checked.extend_from_slice(&stored);
    file.extend_from_slice(&xxh3_64(&checked).to_le_bytes());
    file.extend_from_slice(&stored);
    for (section, bytes) in table.iter().zip(sections) {
        if section.aligned {
            file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        }
        file.append(bytes);
    }
    Ok(file)
}

fn limit(what: &'static str, bytes: usize, limit: usize) -> PackError {
    PackError::Limit { what, bytes, limit }
}

/// Makes a file long enough for what it declares.
fn pad(file: &mut Vec<u8>, constants: &[Written], graph: &Graph) {
    let declared: usize = constants.iter().map(|constant| constant.budget).sum();
    let for_constants = declared.saturating_sub(Budget::BASE).div_ceil(Budget::RATIO);
    let for_nodes = 4 * graph.len().saturating_sub(node_limit(0));
    file.resize(file.len().max(for_constants).max(for_nodes), 0);
}

/// The different constants of a graph in the order of their nodes, and the number of each node's.
fn constants(graph: &Graph) -> Result<(Vec<Written>, HashMap<NodeId, u32>), PackError> {
    let mut holders: Vec<(NodeId, &Arc<Constant>)> = Vec::new();
    for node in graph.topo_order() {
        let unsupported =
            |message: &str| PackError::Unsupported { node: graph.name(node).to_owned(), message: message.to_owned() };
        match graph.op(node) {
            Op::Const(constant) if !nibbles_fit(constant.encoding()) => {
                return Err(unsupported("an element does not fit its four bits"));
            }
            Op::Const(constant) => holders.push((node, constant)),
            Op::ConstHash(_) => return Err(unsupported("the elements of the constant are known only by their hash")),
            _ => {}
        }
    }
    let work = holders.iter().map(|(_, constant)| constant.len()).sum();
    let written = parallel::map(holders.clone(), work, |(_, constant)| Ok(payload::write(constant)))?;
    let mut constants: Vec<Written> = Vec::new();
    let mut numbers = HashMap::new();
    let mut known: HashMap<(u64, usize), Vec<usize>> = HashMap::new();
    for ((node, _), mut constant) in holders.into_iter().zip(written) {
        let same = known.entry((xxh3_64(&constant.payload), constant.payload.len())).or_default();
        let equal = |&i: &usize| constants[i].message == constant.message && constants[i].payload == constant.payload;
        let number = same.iter().copied().find(equal).unwrap_or_else(|| {
            constant.report.name = graph.name(node).to_owned();
            constants.push(constant);
            same.push(constants.len() - 1);
            constants.len() - 1
        });
        numbers.insert(node, u32::try_from(number).map_err(|_| limit("constants", number, u32::MAX as usize))?);
    }
    Ok((constants, numbers))
}

/// Nibbles take a byte each in memory and half of one in the file.
fn nibbles_fit(encoding: &Encoding) -> bool {
    let fit = |data: &Data| match data {
        Data::I4(v) => v.iter().all(|x| (-8..8).contains(x)),
        Data::U4(v) => v.iter().all(|&x| x < 16),
        _ => true,
    };
    match encoding {
        Encoding::Dense(data) | Encoding::Clustered { codebook: data, .. } => fit(data),
        Encoding::Sparse { values, .. } => nibbles_fit(values),
        Encoding::Quantized { .. } => true,
    }
}

struct Sections {
    table: Vec<schema::Section>,
    bytes: Vec<Vec<u8>>,
}

/// Moves payloads into sections, and notes in each constant which one.
fn sections(constants: &mut [Written]) -> Sections {
    let mut bytes = vec![Vec::new()];
    let mut aligned = vec![false];
    for constant in constants {
        let payload = std::mem::take(&mut constant.payload);
        if payload.len() < SHARED_BELOW {
            bytes[0].extend_from_slice(&payload);
        } else {
            constant.message.section = u32::try_from(bytes.len()).expect("constants are numbered by u32");
            aligned.push(constant.message.raw);
            bytes.push(payload);
        }
    }
    let section = |(bytes, &aligned): (&Vec<u8>, &bool)| schema::Section {
        len: bytes.len() as u64,
        checksum: xxh3_64(bytes),
        aligned,
    };
    Sections { table: bytes.iter().zip(&aligned).map(section).collect(), bytes }
}

fn manifest(
    graph: &Graph,
    options: &PackOptions,
    numbers: &HashMap<NodeId, u32>,
    constants: Vec<schema::Constant>,
    sections: &[schema::Section],
) -> Result<Vec<u8>, PackError> {
    let mut symbols = Symbols::default();
    let mut values: HashMap<ValueId, usize> = HashMap::new();
    let mut inputs = Vec::new();
    for &input in graph.inputs() {
        values.insert(input.into(), values.len());
        let ty = Some(symbols.type_message(graph.ty(input)));
        inputs.push(schema::Input { name: graph.name(input).to_owned(), ty });
    }
    let mut nodes = Vec::new();
    let mut count = 0;
    for node in graph.topo_order() {
        if matches!(graph.op(node), Op::Input(_) | Op::Return(_)) {
            continue;
        }
        let back = |operand: Option<ValueId>| operand.map_or(0, |value| values.len() - values[&value]);
        let operands = graph.operands(node).into_iter().map(|operand| u32::try_from(back(operand)));
        let operands = operands.collect::<Result<Vec<_>, _>>().map_err(|_| limit("values", values.len(), MAX_SLOTS))?;
        let message = node_message(graph, node, numbers.get(&node).copied(), operands, &mut symbols);
        message.encode_length_delimited(&mut nodes).expect("a vector grows as needed");
        for result in 0..graph.result_count(node) {
            values.insert(node.result(result), values.len());
        }
        count += 1;
    }
    let result =
        |(name, value): (&str, ValueId)| schema::ResultEntry { name: name.to_owned(), value: values[&value] as u64 };
    let origin = graph.origin.as_deref();
    let message = schema::Manifest {
        name: graph.name.clone(),
        origin: origin.map(|o| schema::Origin { format: o.format.clone(), header: o.header.clone() }),
        provenance: Some(schema::Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pipeline: options.pipeline.clone(),
            seed: options.seed,
        }),
        inputs,
        results: graph.results().into_iter().map(result).collect(),
        sections: sections.to_vec(),
        constants,
        nodes: count,
        symbols: symbols.into_names(),
    };
    let mut bytes = message.encode_length_delimited_to_vec();
    bytes.append(&mut nodes);
    Ok(bytes)
}

fn node_message(
    graph: &Graph,
    node: NodeId,
    constant: Option<u32>,
    operands: Vec<u32>,
    symbols: &mut Symbols,
) -> schema::Node {
    let mut message = schema::Node { name: graph.name(node).to_owned(), operands, ..schema::Node::default() };
    match graph.op(node) {
        Op::Const(_) => message.constant = constant.map_or(0, |number| number + 1),
        Op::Opaque(opaque) => {
            message.opaque = Some(Box::new(schema::Opaque {
                domain: opaque.domain.clone(),
                op_type: opaque.op_type.clone(),
                results: opaque.results.iter().map(|ty| symbols.type_message(ty)).collect(),
                payload: opaque.payload.clone(),
            }));
        }
        op => {
            message.op = op.name().to_owned();
            let attr =
                |(key, value): (&str, _)| schema::Attr { key: key.to_owned(), value: Some(value_message(&value)) };
            message.attrs = op.fields().into_iter().map(attr).collect();
        }
    }
    message
}

/// The manifest as stored: deflated if that makes it smaller, but not by so much that a reader refuses it.
fn deflate(manifest: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    let deflated = encoder.write_all(manifest).and_then(|()| encoder.finish()).expect("a vector grows as needed");
    match deflated.len() < manifest.len() && manifest.len() <= manifest_limit(deflated.len()) {
        true => deflated,
        false => manifest.to_vec(),
    }
}
