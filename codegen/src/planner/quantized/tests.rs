use optc_ir::text;

use super::*;

/// A quantized convolution between an input and a result, with what the text says in the place of both grids.
fn graph(input: &str, output: &str) -> optc_ir::Graph {
    let text = format!(
        "graph @g(%x: f32[1, 4, 3, 3]) -> (y: f32[1, 2, 3, 3]) {{
  %one = const f32[] = [1.0]
  %two = const f32[] = [2.0]
  %zero = const u8[] = [7]
  %codes = const i8[2, 4, 1, 1] = splat(3)
  %w = dequantize_linear(%codes, %one)
  %q = quantize_linear(%x, %one, %zero)
  %d = dequantize_linear(%q, {input})
  %c = conv(%d, %w)
  %p = quantize_linear(%c, %one, %zero)
  %y = dequantize_linear(%p, {output})
  return %y
}}"
    );
    text::parse(&text).expect("the text is a graph")
}

#[test]
fn layers_lie_between_equal_grids() {
    let count = |input, output| {
        let found = find(&graph(input, output), true);
        (found.layers.len(), found.absorbed.len(), found.on_grid.len())
    };
    // The convolution, its weights, and what it reads.
    assert_eq!(count("%one, %zero", "%one, %zero"), (2, 3, 0));
    // Codes that are decoded on another grid are no layer's; what only layers could read is not kept as codes.
    assert_eq!(count("%two, %zero", "%one, %zero"), (0, 1, 1));
    assert_eq!(count("%one, %zero", "%two, %zero"), (0, 1, 1));
}

#[test]
fn sums_begin_with_what_the_zero_point_makes() {
    let graph = graph("%one, %zero", "%one, %zero");
    let found = find(&graph, true);
    let products: Vec<_> = graph.topo_order().into_iter().filter_map(|node| found.layers.get(&node)).collect();
    let Body::Product(product) = &products[1].body else { unreachable!("the second layer is the convolution") };
    assert_eq!(product.begin, [-7 * 3 * 4; 2]);
}

#[test]
fn weights_that_are_no_bytes_make_no_product() {
    let text = "graph @g(%x: f32[1, 2]) -> (y: f32[1, 2]) {
  %one = const f32[] = [1.0]
  %low = const i8[] = [-100]
  %zero = const u8[] = [7]
  %codes = const i8[2, 2] = [120, 3, 4, 5]
  %w = dequantize_linear(%codes, %one, %low)
  %q = quantize_linear(%x, %one, %zero)
  %d = dequantize_linear(%q, %one, %zero)
  %c = matmul(%d, %w)
  %p = quantize_linear(%c, %one, %zero)
  %y = dequantize_linear(%p, %one, %zero)
  return %y
}";
    let found = find(&text::parse(text).expect("the text is a graph"), true);
    assert!(found.layers.is_empty());
    assert_eq!(found.on_grid.len(), 2, "numbers are rounded all the same");
}

/// Where bytes are not multiplied, only what rounds to a grid is found.
#[test]
fn without_products_there_are_no_layers() {
    let text = "graph @g(%x: f32[1, 4]) -> (y: f32[1, 4]) {\n  %s = const f32[] = [0.5]\n  %z = const u8[] = [7]\n  \
                %q = quantize_linear(%x, %s, %z)\n  %d = dequantize_linear(%q, %s, %z)\n  %y = tanh(%d)\n  return %y\n}\n";
    let found = find(&text::parse(text).expect("the text is a graph"), false);
    assert!(found.layers.is_empty() && found.on_grid.len() == 1);
}
