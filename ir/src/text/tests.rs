//! The text form against itself; the suites of the `tests` crate hold the cases from files.

use std::sync::Arc;

use super::*;
use crate::op::{Opaque, attr::AttrValue};
use crate::tensor::{Data, Tensor};
use crate::types::{DType, Dim, Type};
use crate::{Constant, Graph, Op};

/// The code blocks of the documentation that hold a graph.
fn examples() -> Vec<&'static str> {
    let blocks = include_str!("../../TEXT.md").split("```text\n").skip(1);
    blocks.filter_map(|block| block.split("```").next()).filter(|block| block.starts_with("graph @")).collect()
}

fn round_trips(graph: &Graph) {
    for options in [PrintOptions::lossless(), PrintOptions::default(), PrintOptions { max_elements: 0 }] {
        let text = print(graph, &options);
        let back = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(print(&back, &options), text);
        if options == PrintOptions::lossless() {
            assert_eq!(back, *graph, "{text}");
        }
    }
}

#[test]
fn examples_of_the_documentation_read_and_print_the_same() {
    assert_eq!(examples().len(), 4);
    for text in examples() {
        let graph = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        crate::verify::verify(&graph).unwrap_or_else(|e| panic!("{e}\n{text}"));
        round_trips(&graph);
    }
    assert_eq!(parse(examples()[0]).expect("just read").to_string(), examples()[0]);
}

#[test]
fn names_of_any_kind_read_back() {
    let names = [
        "a",
        "12",
        "/m/0/Conv",
        "a//b",
        "",
        "a b",
        "%x",
        "é",
        "\"\\\n\t\r\0",
        "\u{202e}x",
        "_",
        "-",
        "->",
        "x#1",
        "😀",
    ];
    for name in names {
        let mut graph = Graph::new(name);
        let x = graph.add_input(name, Type::tensor(DType::F32, [Dim::sym(name), Dim::Any, Dim::Fixed(3)]));
        graph.add_result(name, x.into());
        round_trips(&graph);
    }
    assert_eq!(Name("a\u{202e}").to_string(), "\"a\\u{202e}\"");
    assert_eq!(Dim::sym("3").to_string(), "\"3\"");
}

#[test]
fn elements_of_every_type_read_back() {
    let mut graph = Graph::new("elements");
    for &dtype in DType::ALL {
        let numbers = [0.0, 1.0, -0.0, -3.0, 0.1, 1e-7, 7.0, f64::INFINITY, f64::NAN, 1e30];
        let node = graph.add_tensor(dtype.name(), Tensor::new([2, 5], Data::from_f64(dtype, numbers)));
        graph.add_result(dtype.name(), node.into());
        let many = graph.add_tensor("many", Tensor::new([3, 7], Data::from_i64(dtype, -10..11)));
        graph.add_result("many", many.into());
        let splat = graph.add_tensor("splat", Tensor::new([3, 7], Data::from_i64(dtype, [1; 21])));
        graph.add_result("splat", splat.into());
    }
    let odd = [f32::from_bits(0xffc0_0000), f32::from_bits(1), f32::from_bits(0x7f80_0001), f32::MAX];
    let odd = graph.add_tensor("odd", Tensor::f32([4], odd));
    graph.add_result("odd", odd.into());
    let empty = graph.add_tensor("empty", Tensor::zeros(DType::F32, [0, 4]));
    graph.add_result("empty", empty.into());
    let scalar = graph.add_tensor("scalar", Tensor::i64([], [5]));
    graph.add_result("scalar", scalar.into());
    round_trips(&graph);
}

#[test]
fn opaque_nodes_read_back_without_and_with_payload() {
    let mut graph = Graph::new("opaque");
    let x = graph.add_input("x", Type::Unknown);
    for (name, results) in [("none", 0), ("one", 1), ("two", 2)] {
        let opaque = Opaque {
            domain: "a.b".to_owned(),
            op_type: "T\"".to_owned(),
            results: vec![Type::Unknown; results],
            payload: (0..40).collect(),
        };
        let node = graph.add(name, Op::Opaque(Arc::new(opaque)), &[None, Some(x.into())]).expect("anything fits");
        for i in 0..results {
            graph.add_result("r", node.result(i));
        }
    }
    let text = print(&graph, &PrintOptions::lossless());
    assert_eq!(parse(&text).expect("just printed"), graph);
    let text = graph.to_string();
    assert_eq!(parse(&text).expect("just printed").to_string(), text);
    assert!(text.contains("%two#0, %two#1 = opaque(_, %x) {domain=\"a.b\", type=\"T\\\"\"} : ?, ?"), "{text}");
}

#[test]
fn generators_do_not_change_from_version_to_version() {
    let text = "graph @g() -> (a: f32[3], b: i8[4]) {
  %a = const f32[3] = uniform(seed=1, lo=-1, hi=1)
  %b = const i8[4] = normal(seed=2, std=20)
  return %a, %b
}";
    let expected = "graph @g() -> (a: f32[3], b: i8[4]) {
  %a = const f32[3] = [-0.19502868, -0.83923256, 0.19312036]
  %b = const i8[4] = [21, -4, -32, 11]
  return %a, %b
}
";
    assert_eq!(parse(text).expect("valid").to_string(), expected);
}

#[test]
fn errors_name_line_column_and_what_was_expected() {
    let head = "graph @g(%x: f32[2]) -> (y: f32[2]) {\n";
    let cases = [
        ("", "line 1, column 1: expected `graph`, found the end of the text"),
        ("graph @g() -> ()", "line 1, column 17: expected `{`, found the end of the text"),
        ("graph @g(%x: f31[2]) -> () {}", "line 1, column 14: expected a type such as `f32[N, 3]` or `?`, found `f31`"),
        ("graph @g(%x: ?, %x: ?) -> () {}", "line 1, column 18: %x is defined twice"),
        ("graph @\"a", "line 1, column 8: this string does not end on its line"),
        ("graph @\"\\q\"", "line 1, column 9: expected one of `\"`, `\\`, `n`, `t`, `u{…}` after `\\`"),
        ("graph é", "line 1, column 7: unexpected character 'é'"),
    ];
    let bodies = [
        ("  return %y }", "line 2, column 11: %y is not defined above"),
        ("  return }", "line 2, column 3: 0 values for 1 result"),
        ("  return %x#1 }", "line 2, column 11: %x has 1 result"),
        ("  %y = foo(%x)", "line 2, column 8: unknown operator `foo`"),
        ("  %y = elu(%x) {alpha=1, beta=2}", "line 2, column 26: elu: unknown attribute beta"),
        ("  %y = elu(%x) {alpha=one}", "line 2, column 17: elu: attribute alpha must be a number"),
        ("  %y = elu(%x) {alpha=1, alpha=2}", "line 2, column 26: attribute alpha is given twice"),
        ("  %y = elu()", "line 2, column 8: elu: operand 0 (x) is missing"),
        ("  %y = elu(%x, %x)", "line 2, column 8: elu: 2 operands given, at most 1 taken"),
        ("  %y = elu(%x) : f32[3]", "line 2, column 18: elu gives f32[2], not f32[3]"),
        ("  %y#1 = elu(%x)", "line 2, column 4: expected result `#0`"),
        ("  %y#0, %y#1 = elu(%x)", "line 2, column 10: elu has 1 result"),
        ("  %y = const f32[2] = [1]", "line 2, column 23: 1 elements for f32[2]"),
        ("  %y = const f32[N] = [1]", "line 2, column 14: a constant has a shape of numbers"),
        ("  %y = const i8[1] = [128]", "line 2, column 23: expected an integer that fits i8, found `128`"),
        ("  %y = const u4[1] = [16]", "line 2, column 23: an element does not fit four bits"),
        ("  %y = const f32[1] #12", "line 2, column 22: expected a hash of eight hexadecimal digits"),
        (
            "  %y = const f32[268435456, 4] = splat(0)",
            "line 2, column 34: more than 1073741824 bytes of elements that are not spelled out",
        ),
        ("  %y = const f32[0, 9999999999999999] = []", "line 2, column 14: type f32[0, 9999999999999999] is too large"),
        (
            "  %y = opaque(%x) {type=\"T\"}",
            "line 3, column 1: expected `:` and the result types of the opaque node, found the end of the text",
        ),
        ("  %x = elu(%x)", "line 2, column 4: %x is defined twice"),
    ];
    let bodies = bodies.map(|(body, error)| (format!("{head}{body}\n"), error));
    for (text, error) in cases.map(|(text, error)| (text.to_owned(), error)).into_iter().chain(bodies) {
        assert_eq!(parse(&text).expect_err(&text).to_string(), error, "{text}");
    }
    let deep = format!("{head}  %y = elu(%x) {{alpha={}", "[".repeat(100_000));
    assert!(parse(&deep).expect_err("too deep").message.contains("nested too deep"));
}

#[test]
fn cut_and_mutated_text_gives_errors_not_panics() {
    for text in examples() {
        for (end, _) in text.char_indices() {
            let _ = parse(&text[..end]).map(|graph| graph.to_string());
            for c in ["", "9", "-", "\"", "]", "%", "#", "0x"] {
                let after = text[end..].char_indices().nth(1).map_or(text.len(), |(i, _)| end + i);
                let mutated = format!("{}{c}{}", &text[..end], &text[after..]);
                if let Ok(graph) = parse_unchecked(&mutated) {
                    assert_eq!(parse_unchecked(&graph.to_string()).map(|g| g.to_string()), Ok(graph.to_string()));
                }
            }
        }
    }
}

#[test]
fn unchecked_text_keeps_the_types_it_claims() {
    let text = "graph @g(%x: f32[2]) -> (y: f32[5]) {\n  %y = elu(%x, %x) : f32[5]\n  return %y\n}\n";
    assert!(parse(text).is_err());
    assert_eq!(parse_unchecked(text).expect("structure is fine").to_string(), text);
}

#[test]
fn attributes_print_as_they_are_read() {
    let value = AttrValue::Call("f".to_owned(), vec![AttrValue::List(vec![AttrValue::Str("\"".to_owned())])]);
    assert_eq!(print::attr(&value), "f([\"\\\"\"])");
    let constant = Constant::dense(Tensor::f32([1], [1.0]));
    assert_eq!(constant.form().to_string(), "dense");
}
