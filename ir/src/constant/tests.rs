//! Every encoding gives back what it was given, and refuses parts that are not its own.

use super::*;
use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn grid(bits: u8, axis: Option<usize>, n: usize) -> QuantParams {
    let scales = (0..n).map(|i| 0.01 + i as f32).collect();
    QuantParams { bits, axis, scales, zeros: vec![3.0; n] }
}

fn patterns() -> Vec<PatternForm> {
    let mut patterns = vec![PatternForm::Bitmap, PatternForm::Csr];
    patterns.extend([1, 2, 4, 8, 16].map(PatternForm::Relative));
    patterns.extend([(1, 1), (2, 4), (1, 4), (4, 8), (5, 5)].map(|(n, m)| PatternForm::NofM(n, m)));
    patterns.extend([(1, 1), (1, 4), (3, 2), (4, 4), (100, 100)].map(|(r, c)| PatternForm::Block(r, c)));
    patterns
}

fn sparse(pattern: &PatternForm, values: &Form) -> Form {
    Form::Sparse(pattern.clone(), Box::new(values.clone()))
}

/// Encodes, checks what an encoding promises, and returns whether the form held the tensor.
fn round_trip(tensor: &Tensor, form: &Form) -> bool {
    let constant = match Constant::encode(tensor, form) {
        Ok(constant) => constant,
        Err(ConstantError::Inexact(_) | ConstantError::Malformed(_)) => return false,
    };
    assert_eq!(constant.decode(), *tensor, "{form}");
    assert_eq!(constant.form(), *form);
    let dense = Constant::dense(tensor.clone());
    assert_eq!(constant.nonzeros(), dense.nonzeros(), "{form}");
    assert_eq!(constant.hash(), dense.hash(), "{form}");
    let parts = Constant::new(tensor.shape().to_vec(), tensor.dtype(), constant.encoding().clone());
    assert_eq!(parts, Ok(constant), "{form}");
    true
}

/// Elements with every peculiarity of a type: signed zeros, infinities, NaNs with payloads, subnormals.
fn peculiar(dtype: DType) -> Data {
    match dtype {
        DType::F64 => {
            Data::F64([0, 1, 1 << 63, 0x7ff0 << 48, 0xfff8 << 48 | 7, 0x7ff8 << 48, 1 << 62].map(f64::from_bits).into())
        }
        DType::F32 => {
            Data::F32([0, 1, 1 << 31, 0x7f80_0000, 0xffc0_0007, 0x7fc0_0000, 0x3f80_0000].map(f32::from_bits).into())
        }
        DType::F16 => Data::F16([0, 1, 1 << 15, 0x7c00, 0xfe07, 0x7e00, 0x3c00].map(f16::from_bits).into()),
        DType::BF16 => Data::BF16([0, 1, 1 << 15, 0x7f80, 0xffc7, 0x7fc0, 0x3f80].map(bf16::from_bits).into()),
        _ => Data::from_i64(dtype, [0, 1, 7, -8, i64::MAX, i64::MIN, -1]),
    }
}

#[test]
fn random_and_peculiar_elements_of_every_type_come_back() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let shapes: &[&[usize]] =
        &[&[], &[0], &[0, 3], &[3, 0], &[1], &[8], &[5, 16], &[7, 3, 5], &[16, 4, 3, 3], &[1, 1000]];
    for &dtype in DType::ALL {
        let pool = peculiar(dtype);
        for shape in shapes {
            let len = shape.iter().product();
            for density in [0.0, 0.02, 0.3, 1.0] {
                let pick = |_| if rng.random_bool(density) { rng.random_range(0..pool.len()) } else { 0 };
                let indices: Vec<usize> = (0..len).map(pick).collect();
                let tensor = Tensor::new(*shape, pool.select(indices));
                for values in [Form::Dense, Form::Clustered] {
                    assert!(round_trip(&tensor, &values));
                    for pattern in patterns() {
                        let held = round_trip(&tensor, &sparse(&pattern, &values));
                        let always = matches!(pattern, PatternForm::NofM(2.., _) | PatternForm::NofM(1, 4));
                        assert!(held || always, "{pattern} {shape:?}");
                    }
                }
                let smallest = Constant::smallest(&tensor, None);
                assert_eq!(smallest.decode(), tensor);
                assert!(smallest.stored_bytes() <= dtype.bytes(len));
            }
        }
    }
}

#[test]
fn smallest_is_the_smallest_of_what_it_tries() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for shape in [vec![64, 64], vec![16, 8, 3, 3], vec![3, 1000], vec![4096], vec![2]] {
        for (density, k) in [(1.0, 3), (0.5, 16), (0.05, 200), (0.3, 1_000_000), (1.0, 1_000_000), (0.003, 2)] {
            let len = shape.iter().product();
            let element = |_| if rng.random_bool(density) { rng.random_range(1..=k) as f32 } else { 0.0 };
            let tensor = Tensor::f32(shape.clone(), (0..len).map(element).collect::<Vec<_>>());
            let mut forms = vec![Form::Dense, Form::Clustered];
            for pattern in [PatternForm::Bitmap, PatternForm::Csr].into_iter().chain((4..=8).map(PatternForm::Relative))
            {
                forms.extend([sparse(&pattern, &Form::Dense), sparse(&pattern, &Form::Clustered)]);
            }
            let sizes = forms.iter().map(|form| Constant::encode(&tensor, form).unwrap().stored_bytes());
            let best = sizes.min().unwrap();
            let smallest = Constant::smallest(&tensor, None);
            let structured = matches!(smallest.form(), Form::Sparse(PatternForm::NofM(..) | PatternForm::Block(..), _));
            let bytes = smallest.stored_bytes();
            assert!(if structured { bytes < best } else { bytes == best }, "{bytes} {best} {}", smallest.form());
        }
    }
}

#[test]
fn structure_is_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let positions: Vec<usize> = (0..64 * 16).map(|_| rng.random_range(0..4)).collect();
    let nm = (0..64 * 64).map(|i| if positions[i / 4] == i % 4 { rng.random_range(0.1..1.0) } else { 0.0 }).collect();
    let block: Vec<f32> =
        (0..64 * 64).map(|i| if (i / 256 + i % 64 / 4) % 8 == 0 { rng.random() } else { 0.0 }).collect();
    let form = |v: Vec<f32>| Constant::smallest(&Tensor::f32([64, 64], v), None).form().to_string();
    assert_eq!(form(nm), "sparse(nofm(1, 4))");
    assert_eq!(form(block), "sparse(block(4, 4))");
}

#[test]
fn quantized_elements_come_back_and_others_are_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for bits in 1..=8u8 {
        for (axis, n) in [(None, 1), (Some(0), 6), (Some(1), 5), (Some(2), 4), (Some(3), 9)] {
            let mut params = grid(bits, axis, n);
            for (scale, zero) in params.scales.iter_mut().zip(&mut params.zeros) {
                *scale = rng.random_range(1e-6..10.0);
                *zero = if bits == 1 { 0.5 } else { rng.random_range(-300.0..300.0) };
            }
            let shape = [6usize, 5, 4, 9];
            let codes: Vec<u32> = (0..6 * 5 * 4 * 9).map(|_| rng.random_range(0..1 << bits)).collect();
            let encoding = Encoding::Quantized { params: params.clone(), codes: Packed::pack(bits, &codes) };
            let constant = Constant::new(shape.to_vec(), DType::F32, encoding).unwrap();
            let tensor = constant.decode();
            let strides = [180, 36, 9, 1];
            for (at, (&x, &code)) in tensor.as_f32().unwrap().iter().zip(&codes).enumerate() {
                let channel = axis.map_or(0, |a| at / strides[a] % shape[a]);
                assert_eq!(x.to_bits(), ((code as f32 - params.zeros[channel]) * params.scales[channel]).to_bits());
            }
            assert_eq!(Constant::encode(&tensor, &constant.form()), Ok(constant.clone()));
            assert!(round_trip(&tensor, &constant.form()));
            let mut off = tensor.clone();
            let Data::F32(v) = off.data_mut() else { unreachable!("the tensor is f32") };
            v[17] = f32::from_bits(v[17].to_bits() ^ 1);
            assert!(matches!(Constant::encode(&off, &constant.form()), Err(ConstantError::Inexact(_))));
            let smallest = Constant::smallest(&off, Some(&params));
            assert_eq!(smallest.decode(), off);
        }
    }
}

#[test]
fn sparse_values_may_be_quantized_along_any_axis() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (axis, n) in [(None, 1), (Some(0), 8), (Some(1), 4), (Some(2), 3)] {
        let params = grid(4, axis, n);
        let at = |i: usize| axis.map_or(0, |a| i / [12, 3, 1][a] % [8, 4, 3][a]);
        let element = |i| if rng.random_bool(0.3) { params.value(at(i), rng.random_range(0..16)) } else { 0.0 };
        let tensor = Tensor::f32([8, 4, 3], (0..96).map(element).collect::<Vec<_>>());
        for pattern in patterns() {
            let fits = !matches!(pattern, PatternForm::NofM(..)) || pattern == PatternForm::NofM(1, 1);
            assert!(round_trip(&tensor, &sparse(&pattern, &Form::Quantized(params.clone()))) || !fits, "{pattern}");
        }
        let smallest = Constant::smallest(&tensor, Some(&params));
        assert!(
            smallest.stored_bytes()
                <= Constant::encode(&tensor, &Form::Quantized(params.clone())).unwrap().stored_bytes()
        );
    }
}

#[test]
fn bad_grids_are_refused() {
    let tensor = Tensor::f32([2, 2], [0.0; 4]);
    let good = QuantParams { bits: 4, axis: None, scales: vec![1.0], zeros: vec![0.0] };
    assert!(round_trip(&tensor, &Form::Quantized(good.clone())));
    let bad = [
        QuantParams { bits: 0, ..good.clone() },
        QuantParams { bits: 9, ..good.clone() },
        QuantParams { axis: Some(2), ..good.clone() },
        QuantParams { axis: Some(1), ..good.clone() },
        QuantParams { scales: vec![], ..good.clone() },
        QuantParams { zeros: vec![0.0; 2], ..good.clone() },
        QuantParams { scales: vec![0.0], ..good.clone() },
        QuantParams { scales: vec![-1.0], ..good.clone() },
        QuantParams { scales: vec![f32::NAN], ..good.clone() },
        QuantParams { scales: vec![f32::INFINITY], ..good.clone() },
        QuantParams { scales: vec![1e-45], ..good.clone() },
        QuantParams { scales: vec![f32::MAX], ..good.clone() },
        QuantParams { zeros: vec![f32::NAN], ..good.clone() },
        QuantParams { zeros: vec![1e30], ..good.clone() },
    ];
    for params in bad {
        let error = Constant::encode(&tensor, &Form::Quantized(params.clone()));
        assert!(matches!(error, Err(ConstantError::Malformed(_))), "{params:?}");
    }
    let integers = Tensor::i64([1], [0]);
    assert!(matches!(Constant::encode(&integers, &Form::Quantized(good)), Err(ConstantError::Inexact(_))));
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let f32s = |v: &[f32]| Data::F32(v.to_vec());
    let dense = |v: &[f32]| Box::new(Encoding::Dense(f32s(v)));
    let clustered = |table: &[f32], bits, codes: &[u32]| Encoding::Clustered {
        codebook: f32s(table),
        codes: Packed::pack(bits, codes),
    };
    let bitmap = |bits: &[u32]| Pattern::Bitmap(Packed::pack(1, bits));
    let csr = |starts: &[u32], columns: &[u32]| Pattern::Csr {
        rows: Packed::pack(2, starts),
        columns: Packed::pack(1, columns),
    };
    let nm = |positions: &[u32]| Pattern::NofM { n: 1, m: 2, positions: Packed::pack(1, positions) };
    let block = |rows, bits: &[u32]| Pattern::Block { rows, columns: 2, mask: Packed::pack(1, bits) };
    let sparse = |pattern: Pattern, values| Encoding::Sparse { pattern, values };
    let good = [
        Encoding::Dense(f32s(&[1.0, 2.0, 3.0, 4.0])),
        clustered(&[-0.0, 0.0, f32::NAN], 2, &[0, 1, 2, 2]),
        sparse(bitmap(&[0, 1, 0, 1]), dense(&[-0.0, 1.0])),
        sparse(csr(&[0, 1, 2], &[1, 1]), dense(&[1.0, 1.0])),
        sparse(Pattern::Relative(Packed::pack(1, &[1, 1])), dense(&[0.0, 1.0])),
        sparse(nm(&[0, 1]), dense(&[0.0, 1.0])),
        sparse(block(1, &[0, 1]), dense(&[0.0, 1.0])),
    ];
    for encoding in good {
        assert!(Constant::new(vec![2, 2], DType::F32, encoding.clone()).is_ok(), "{encoding:?}");
    }
    let bad = [
        Encoding::Dense(f32s(&[1.0; 3])),
        Encoding::Dense(Data::I64(vec![1; 4])),
        clustered(&[0.0, -0.0], 1, &[0, 1, 1, 1]),
        clustered(&[1.0, 1.0], 1, &[0, 1, 1, 1]),
        clustered(&[1.0, 2.0], 1, &[1, 1, 1, 1]),
        clustered(&[1.0, 2.0], 2, &[0, 1, 1, 1]),
        clustered(&[1.0, 2.0, 3.0], 2, &[0, 1, 2, 3]),
        clustered(&[], 1, &[0, 0, 0, 0]),
        clustered(&[1.0, 2.0], 1, &[0, 1, 1]),
        sparse(bitmap(&[0, 1, 0]), dense(&[1.0])),
        sparse(bitmap(&[0, 1, 0, 1]), dense(&[1.0])),
        sparse(bitmap(&[0, 1, 0, 1]), dense(&[1.0, 0.0])),
        sparse(Pattern::Bitmap(Packed::pack(2, &[0, 1, 0, 1])), dense(&[1.0, 1.0])),
        sparse(csr(&[0, 1], &[1, 1]), dense(&[1.0, 1.0])),
        sparse(csr(&[0, 1, 1], &[1, 1]), dense(&[1.0, 1.0])),
        sparse(csr(&[1, 1, 2], &[1, 1]), dense(&[1.0, 1.0])),
        sparse(csr(&[0, 3, 2], &[1, 1]), dense(&[1.0, 1.0])),
        sparse(csr(&[0, 2, 2], &[1, 0]), dense(&[1.0, 1.0])),
        sparse(csr(&[0, 2, 2], &[1, 1]), dense(&[1.0, 1.0])),
        sparse(Pattern::Relative(Packed::pack(1, &[1, 0, 1])), dense(&[1.0; 3])),
        sparse(Pattern::Relative(Packed::pack(1, &[1, 0])), dense(&[1.0, 0.0])),
        sparse(Pattern::Relative(Packed::pack(1, &[0, 1])), dense(&[0.0, 1.0])),
        sparse(Pattern::Relative(Packed::pack(17, &[0, 1])), dense(&[1.0, 1.0])),
        sparse(nm(&[0]), dense(&[1.0])),
        sparse(nm(&[1, 1]), dense(&[0.0, 1.0])),
        sparse(Pattern::NofM { n: 2, m: 2, positions: Packed::pack(1, &[1, 0, 0, 1]) }, dense(&[1.0; 4])),
        sparse(Pattern::NofM { n: 1, m: 3, positions: Packed::pack(2, &[0]) }, dense(&[1.0])),
        sparse(Pattern::NofM { n: 0, m: 0, positions: Packed::pack(1, &[]) }, dense(&[])),
        sparse(block(1, &[1]), dense(&[1.0, 1.0])),
        sparse(block(1, &[1, 1]), dense(&[1.0, 1.0, 0.0, 0.0])),
        sparse(block(0, &[1, 1]), dense(&[1.0; 4])),
        sparse(bitmap(&[1; 4]), Box::new(sparse(bitmap(&[1; 4]), dense(&[1.0; 4])))),
        sparse(bitmap(&[1; 4]), Box::new(clustered(&[0.0, 1.0], 1, &[0, 1, 1, 1]))),
    ];
    for encoding in bad {
        let result = Constant::new(vec![2, 2], DType::F32, encoding.clone());
        assert!(matches!(result, Err(ConstantError::Malformed(_))), "{encoding:?}");
    }
    let huge = Encoding::Sparse { pattern: Pattern::Relative(Packed::pack(8, &[])), values: dense(&[]) };
    for shape in [vec![usize::MAX, 2], vec![0, usize::MAX, 2], vec![1 << 41]] {
        assert!(Constant::new(shape, DType::F32, huge.clone()).is_err());
    }
}

#[test]
fn sizes_are_those_of_the_parts() {
    let bytes = |constant: Result<Constant, ConstantError>| constant.unwrap().stored_bytes();
    let mut v = vec![0.0f32; 162];
    (0..41).for_each(|i| v[3 * i] = (i % 16 + 1) as f32);
    let tensor = Tensor::f32([6, 3, 3, 3], v);
    assert_eq!(bytes(Constant::encode(&tensor, &Form::Dense)), 648);
    assert_eq!(bytes(Constant::encode(&tensor, &sparse(&PatternForm::Bitmap, &Form::Clustered))), 21 + 21 + 64);
    assert_eq!(bytes(Constant::encode(&tensor, &sparse(&PatternForm::Csr, &Form::Dense))), 6 + 26 + 164);
    let zeros = Tensor::f32([10, 6], [0.0; 60]);
    assert_eq!(bytes(Constant::encode(&zeros, &Form::Quantized(grid(8, Some(0), 10)))), 60 + 80);
    assert_eq!(Constant::dense(Tensor::new([3], Data::I4(vec![1, 2, 3]))).stored_bytes(), 2);
}

#[test]
fn hashes_tell_types_shapes_and_bits_apart() {
    let hash = |tensor: Tensor| Constant::dense(tensor).hash();
    let mut hashes = vec![
        hash(Tensor::f32([2, 2], [0.0; 4])),
        hash(Tensor::f32([4], [0.0; 4])),
        hash(Tensor::f32([4], [0.0, 0.0, 0.0, -0.0])),
        hash(Tensor::new([4], Data::I32(vec![0; 4]))),
        hash(Tensor::new([4], Data::U32(vec![0; 4]))),
    ];
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 5);
}

#[test]
fn forms_print() {
    let relative = PatternForm::Relative(8);
    let long = grid(8, Some(1), 2);
    for (form, text) in [
        (Form::Dense, "dense"),
        (Form::Clustered, "clustered"),
        (sparse(&PatternForm::Bitmap, &Form::Dense), "sparse(bitmap)"),
        (sparse(&PatternForm::Csr, &Form::Clustered), "sparse(csr, clustered)"),
        (sparse(&PatternForm::NofM(2, 4), &Form::Dense), "sparse(nofm(2, 4))"),
        (sparse(&PatternForm::Block(4, 1), &Form::Dense), "sparse(block(4, 1))"),
        (
            sparse(&relative, &Form::Quantized(grid(4, None, 1))),
            "sparse(relative(8), quant(bits=4, scales=[0.01], zeros=[3]))",
        ),
        (Form::Quantized(long.clone()), "quant(bits=8, axis=1, scales=[0.01, 1.01], zeros=[3, 3])"),
    ] {
        assert_eq!(form.to_string(), text);
    }
    assert_eq!(
        format!("{:#}", sparse(&relative, &Form::Quantized(long))),
        "sparse(relative(8), quant(bits=8, axis=1))"
    );
}
