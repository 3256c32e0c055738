//! What each constant takes in an `.optc`, and what it would take coded otherwise.

use optc_ir::{Graph, Op};
use serde::Serialize;

use super::table::{Align, Style, Table};
use super::text::{bytes, count};
use crate::pack::PackReport;

/// One stored constant.
#[derive(Clone, Debug, Serialize)]
pub struct StorageRow {
    /// The name of the first node that holds it.
    pub constant: String,
    /// Its encoding.
    pub encoding: String,
    /// Its elements.
    pub elements: usize,
    /// Bytes of the elements kept densely.
    pub dense_bytes: usize,
    /// Bytes with codes and positions bit-packed.
    pub packed_bytes: usize,
    /// Bytes with codes and positions in Huffman's code, its tables included.
    pub huffman_bytes: usize,
    /// Bytes as stored: the best coders there are.
    pub bytes: usize,
    /// Of these, codes or elements.
    pub code_bytes: usize,
    /// Of these, positions of elements that are not zero.
    pub position_bytes: usize,
    /// Of these, codebook, scales and zero points.
    pub table_bytes: usize,
    /// The empirical entropy of codes and positions.
    pub entropy_bits: f64,
    /// Bits stored an element.
    pub bits_per_weight: f64,
    /// The coders of codes and positions.
    pub coders: Vec<&'static str>,
}

/// The constants of a packed file, in its order.
pub fn storage(graph: &Graph, packed: &PackReport) -> Vec<StorageRow> {
    let elements = |name: &str| {
        let node = graph.nodes().find(|&node| graph.name(node) == name && matches!(graph.op(node), Op::Const(_)));
        node.and_then(|node| graph.constant(node)).map_or(0, |constant| constant.len())
    };
    let rows = packed.constants.iter().map(|constant| {
        let (codes, positions) = (&constant.codes, &constant.positions);
        let elements = elements(&constant.name);
        let mut coders = codes.coders.clone();
        coders.extend(positions.coders.iter().filter(|coder| !codes.coders.contains(coder)));
        StorageRow {
            constant: constant.name.clone(),
            encoding: constant.form.clone(),
            elements,
            dense_bytes: constant.dense_bytes,
            packed_bytes: constant.packed_bytes,
            huffman_bytes: codes.huffman_bytes + positions.huffman_bytes + constant.table_bytes,
            bytes: constant.bytes,
            code_bytes: codes.bytes,
            position_bytes: positions.bytes,
            table_bytes: constant.table_bytes,
            entropy_bits: codes.entropy_bits + positions.entropy_bits,
            bits_per_weight: 8.0 * constant.bytes as f64 / elements.max(1) as f64,
            coders,
        }
    });
    rows.collect()
}

/// The constants as a table, with their sum.
pub fn storage_table(rows: &[StorageRow], style: Style) -> String {
    let right = |title| (title, Align::Right);
    let columns = [
        ("constant", Align::Left),
        ("encoding", Align::Left),
        right("elements"),
        right("dense"),
        right("bit-packed"),
        right("Huffman"),
        right("stored"),
        right("codes"),
        right("positions"),
        right("tables"),
        right("bits/weight"),
        right("entropy"),
    ];
    let mut table = Table::new(style, &columns);
    let nonzero = |n: usize| if n == 0 { String::new() } else { bytes(n as u64) };
    let total = |f: fn(&StorageRow) -> usize| rows.iter().map(f).sum::<usize>();
    let sum = StorageRow {
        constant: "all".to_owned(),
        encoding: String::new(),
        elements: total(|row| row.elements),
        dense_bytes: total(|row| row.dense_bytes),
        packed_bytes: total(|row| row.packed_bytes),
        huffman_bytes: total(|row| row.huffman_bytes),
        bytes: total(|row| row.bytes),
        code_bytes: total(|row| row.code_bytes),
        position_bytes: total(|row| row.position_bytes),
        table_bytes: total(|row| row.table_bytes),
        entropy_bits: rows.iter().map(|row| row.entropy_bits).sum(),
        bits_per_weight: 8.0 * total(|row| row.bytes) as f64 / total(|row| row.elements).max(1) as f64,
        coders: Vec::new(),
    };
    for row in rows.iter().chain((rows.len() > 1).then_some(&sum)) {
        table.row([
            row.constant.clone(),
            row.encoding.clone(),
            count(row.elements as u64),
            bytes(row.dense_bytes as u64),
            bytes(row.packed_bytes as u64),
            bytes(row.huffman_bytes as u64),
            bytes(row.bytes as u64),
            nonzero(row.code_bytes),
            nonzero(row.position_bytes),
            nonzero(row.table_bytes),
            format!("{:.2}", row.bits_per_weight),
            bytes((row.entropy_bits / 8.0).ceil() as u64),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use optc_ir::builder::GraphBuilder;
    use optc_ir::{DType, Tensor};

    use super::*;
    use crate::pack;

    #[test]
    fn parts_sum_to_what_is_stored() {
        let g = GraphBuilder::new("g");
        let x = g.input("x", DType::F32, [1, 64]);
        let values = (0..64 * 64).map(|i| if i * i % 7 == 3 { (i % 5) as f32 } else { 0.0 }).collect::<Vec<_>>();
        let w = g.constant("w", Tensor::f32([64, 64], values));
        let y = x.linear(w, None).id();
        let mut graph = g.finish(&[("y", y)]);
        let passes = optc_passes::pipeline::parse("encode-weights").unwrap();
        optc_passes::PassManager::new(&optc_ir::Interp).run(&passes, &mut graph).unwrap();
        let packed = pack::write(&graph, &pack::PackOptions::default()).unwrap().1;
        let rows = storage(&graph, &packed);
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!((row.elements, row.dense_bytes), (4096, 16384));
        assert_eq!(row.code_bytes + row.position_bytes + row.table_bytes, row.bytes);
        assert!(row.bytes <= row.huffman_bytes + 8 && row.huffman_bytes <= row.packed_bytes + 8, "{row:?}");
        let text = storage_table(&rows, Style::default());
        assert!(text.lines().any(|line| line.starts_with(" w ")), "{text}");
    }
}
