//! Reading containers.

use std::sync::Arc;

use flate2::{Decompress, FlushDecompress, Status};
use optc_ir::graph::{MAX_SLOTS, Origin};
use optc_ir::op::{AttrValue, Opaque};
use optc_ir::verify::verify;
use optc_ir::{Constant, Graph, Op, ValueId};
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::cursor::Cursor;
use super::payload::Pending;
use super::types::{Symbols, read_value};
use super::{ALIGNMENT, Budget, HEADER, MAGIC, PackError, Provenance, VERSION};
use super::{damaged, manifest_limit, node_limit, parallel, schema};

/// The graph in the bytes of a container.
///
/// # Errors
/// [`PackError`] if the bytes are no container of this version, are damaged, or declare more than their
/// length makes plausible.
pub fn read(bytes: &[u8]) -> Result<Graph, PackError> {
    let opened = Opened::new(bytes)?;
    let constants = constants(&opened, bytes)?;
    let graph = graph(&opened, constants, bytes.len())?;
    verify(&graph)?;
    Ok(graph)
}

/// How the graph of a container was made.
///
/// # Errors
/// As [`read`]; sections are not looked at.
pub fn provenance(bytes: &[u8]) -> Result<Provenance, PackError> {
    let provenance = Opened::new(bytes)?.manifest.provenance.unwrap_or_default();
    Ok(Provenance { version: provenance.version, pipeline: provenance.pipeline, seed: provenance.seed })
}

/// A container whose manifest is decoded.
pub(super) struct Opened {
    pub(super) manifest: schema::Manifest,
    /// The messages of the nodes.
    pub(super) nodes: Vec<u8>,
    /// Where sections begin.
    body: usize,
}

impl Opened {
    pub(super) fn new(bytes: &[u8]) -> Result<Opened, PackError> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.take(MAGIC.len().min(bytes.len()))?;
        if magic.is_empty() || !MAGIC.starts_with(magic) {
            return Err(PackError::NotOptc);
        }
        let mut word =
            || Ok::<u32, PackError>(u32::from_le_bytes(cursor.take(4)?.try_into().expect("four bytes were taken")));
        let version = word()?;
        if version != VERSION {
            return Err(PackError::Version { found: version });
        }
        let (stored, decoded) = (word()? as usize, word()? as usize);
        let checksum = u64::from_le_bytes(cursor.take(8)?.try_into().expect("eight bytes were taken"));
        let stored_bytes = cursor.take(stored)?;
        let mut checked = bytes[MAGIC.len()..HEADER - 8].to_vec();
        checked.extend_from_slice(stored_bytes);
        if xxh3_64(&checked) != checksum {
            return Err(damaged("the checksum of the manifest does not match"));
        }
        let limit = manifest_limit(stored);
        if decoded > limit {
            return Err(PackError::Limit { what: "names, attributes and opaque nodes", bytes: decoded, limit });
        }
        let mut bytes = if stored == decoded { stored_bytes.to_vec() } else { inflate(stored_bytes, decoded)? };
        let mut nodes = &*bytes;
        let manifest = schema::Manifest::decode_length_delimited(&mut nodes).map_err(|e| damaged(e.to_string()))?;
        let at = bytes.len() - nodes.len();
        let nodes = bytes.split_off(at);
        Ok(Opened { manifest, nodes, body: HEADER + stored })
    }
}

fn inflate(bytes: &[u8], len: usize) -> Result<Vec<u8>, PackError> {
    let mut out = Vec::with_capacity(len);
    let status = Decompress::new(false).decompress_vec(bytes, &mut out, FlushDecompress::Finish);
    match status {
        Ok(Status::StreamEnd) if out.len() == len => Ok(out),
        _ => Err(damaged("the manifest does not inflate")),
    }
}

/// The bytes of each section.
pub(super) fn sections<'a>(opened: &Opened, bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, PackError> {
    let mut cursor = Cursor::new(&bytes[opened.body..]);
    let zeros = |cursor: &mut Cursor<'a>, len| match cursor.take(len)?.iter().all(|&byte| byte == 0) {
        true => Ok(()),
        false => Err(damaged("there are bytes between sections")),
    };
    let mut sections = Vec::new();
    for section in &opened.manifest.sections {
        if section.aligned {
            let at = bytes.len() - cursor.bytes.len();
            zeros(&mut cursor, at.next_multiple_of(ALIGNMENT) - at)?;
        }
        let len = usize::try_from(section.len).map_err(|_| damaged("a section is too large"))?;
        sections.push(cursor.take(len)?);
    }
    let rest = cursor.bytes.len();
    zeros(&mut cursor, rest)?;
    let pairs: Vec<_> = sections.iter().zip(&opened.manifest.sections).enumerate().collect();
    parallel::for_each(pairs, bytes.len() / 8, |(i, (bytes, section))| match xxh3_64(bytes) == section.checksum {
        true => Ok(()),
        false => Err(damaged(format!("the checksum of section {i} does not match"))),
    })?;
    Ok(sections)
}

fn constants(opened: &Opened, bytes: &[u8]) -> Result<Vec<Arc<Constant>>, PackError> {
    let mut cursors: Vec<Cursor<'_>> = sections(opened, bytes)?.into_iter().map(Cursor::new).collect();
    let mut budget = Budget::of(bytes.len());
    let mut pending = Vec::new();
    for message in &opened.manifest.constants {
        let cursor = cursors.get_mut(message.section as usize).ok_or_else(|| damaged("a section does not exist"))?;
        pending.push(Pending::parse(message, cursor, &mut budget)?);
    }
    if !cursors.iter().all(Cursor::is_empty) {
        return Err(damaged("a section is longer than its constants"));
    }
    let work = pending.iter().map(Pending::len).sum();
    parallel::for_each(pending.iter_mut().flat_map(Pending::jobs).collect(), work, |job| job.run())?;
    parallel::map(pending, work, |constant| constant.into_constant().map(Arc::new))
}

fn graph(opened: &Opened, constants: Vec<Arc<Constant>>, file: usize) -> Result<Graph, PackError> {
    let manifest = &opened.manifest;
    let nodes = usize::try_from(manifest.nodes).unwrap_or(usize::MAX);
    if nodes.saturating_add(manifest.inputs.len()) > node_limit(file) {
        return Err(PackError::Limit { what: "nodes", bytes: nodes, limit: node_limit(file) });
    }
    let symbols = Symbols::from_names(&manifest.symbols);
    let mut graph = Graph::new(manifest.name.clone());
    let origin = manifest.origin.as_ref();
    graph.origin = origin.map(|o| Arc::new(Origin { format: o.format.clone(), header: o.header.clone() }));
    let mut values: Vec<ValueId> = Vec::new();
    for input in &manifest.inputs {
        let ty = symbols.read_type(&input.ty.clone().unwrap_or_default())?;
        let node = graph.add_input(&input.name, ty);
        check_name(&graph, node, &input.name)?;
        values.push(node.into());
    }
    let mut messages = &*opened.nodes;
    for _ in 0..nodes {
        let message = schema::Node::decode_length_delimited(&mut messages).map_err(|e| damaged(e.to_string()))?;
        let name = message.name.clone();
        let operand = |&back: &u32| match back {
            0 => Ok(None),
            back => {
                let value = values.len().checked_sub(back as usize).and_then(|at| values.get(at));
                value.copied().map(Some).ok_or_else(|| damaged(format!("an operand of node {name} does not exist")))
            }
        };
        let operands = message.operands.iter().map(operand).collect::<Result<Vec<_>, _>>()?;
        let op = op(message, &constants, &symbols)?;
        let results = optc_ir::op::infer::result_count(&op);
        if operands.len() > MAX_SLOTS || results > MAX_SLOTS {
            return Err(damaged(format!("node {name} has too many operands or results")));
        }
        let node = graph.add(&name, op, &operands).map_err(|source| PackError::Node { node: name.clone(), source })?;
        check_name(&graph, node, &name)?;
        values.extend((0..graph.result_count(node)).map(|result| node.result(result)));
    }
    if !messages.is_empty() {
        return Err(damaged("bytes follow the last node"));
    }
    if manifest.results.len() > MAX_SLOTS {
        return Err(damaged("there are too many results"));
    }
    for result in &manifest.results {
        let value = usize::try_from(result.value).ok().and_then(|at| values.get(at));
        graph
            .add_result(&result.name, *value.ok_or_else(|| damaged(format!("result {} does not exist", result.name)))?);
    }
    Ok(graph)
}

/// The graph renames nodes whose name is empty or taken; a file has no such nodes.
fn check_name(graph: &Graph, node: optc_ir::NodeId, name: &str) -> Result<(), PackError> {
    match graph.name(node) == name {
        true => Ok(()),
        false => Err(damaged(format!("the name \"{name}\" is empty or taken"))),
    }
}

fn op(message: schema::Node, constants: &[Arc<Constant>], symbols: &Symbols) -> Result<Op, PackError> {
    let schema::Node { name, op, attrs, constant, opaque, .. } = message;
    if let Some(number) = (constant as usize).checked_sub(1) {
        let constant =
            constants.get(number).ok_or_else(|| damaged(format!("the constant of node {name} does not exist")))?;
        return Ok(Op::Const(Arc::clone(constant)));
    }
    if let Some(opaque) = opaque {
        let schema::Opaque { domain, op_type, results, payload } = *opaque;
        let results = results.iter().map(|ty| symbols.read_type(ty)).collect::<Result<_, _>>()?;
        return Ok(Op::Opaque(Arc::new(Opaque { domain, op_type, results, payload })));
    }
    let field = |attr: schema::Attr| {
        Ok::<(String, AttrValue), PackError>((attr.key, read_value(attr.value.unwrap_or_default())?))
    };
    let fields = attrs.into_iter().map(field).collect::<Result<Vec<_>, _>>()?;
    let unsupported = |message| PackError::Unsupported { node: name.clone(), message };
    let found = Op::from_fields(&op, &fields).map_err(unsupported)?;
    found.ok_or_else(|| unsupported(format!("operator {op} is not known")))
}
