//! Constants in text.

use super::encoding;
use super::generate;
use super::lex::Token;
use super::parse::{Parsed, Parser};
use super::value::Element;
use crate::constant::{Constant, Form, PatternForm, QuantParams};
use crate::op::{ConstHash, Op};
use crate::tensor::{Data, Tensor};
use crate::types::{DType, TensorType};

/// All elements of one text that a generator or `splat` makes take no more bytes than this together.
const MAX_GENERATED: usize = 1 << 30;

/// Encodings nest no deeper.
const MAX_DEPTH: usize = 4;

/// An encoding as written.
struct Written {
    /// `None` if its parameters are known only by a hash.
    form: Option<Form>,
    /// Bits a code and size of the codebook, if stated.
    codebook: Option<(u8, usize)>,
}

impl Parser<'_> {
    /// What follows the word `const`.
    pub(super) fn constant(&mut self) -> Parsed<Op> {
        let ty_at = self.at;
        let ty = self.tensor_type()?;
        let (Some(shape), Some(len)) = (ty.fixed_shape(), ty.numel()) else {
            return self.error(ty_at, "a constant has a shape of numbers");
        };
        let at = self.at;
        let written = match self.token {
            Token::Bare(_) => self.encoding(0)?,
            _ => Written { form: Some(Form::Dense), codebook: None },
        };
        let end = self.end;
        if self.at_punct('#') {
            let hash = self.hash()?;
            let encoding = if end > at { self.lexer.slice(at, end).to_owned() } else { String::new() };
            let note = self.lexer.comment_after(self.end).to_owned();
            return Ok(Op::ConstHash(ConstHash { ty, encoding, hash, note }));
        }
        if !self.eat('=')? {
            return self.expected("an encoding, `=` and elements, or `#` and a hash");
        }
        let Some(form) = written.form else {
            return self.error(at, "elements can't be encoded by parameters that are known only by their hash");
        };
        let data_at = self.at;
        let data = self.payload(&ty, len)?;
        if data.len() != len {
            return self.error(data_at, format!("{} elements for {ty}", data.len()));
        }
        let constant = match Constant::encode(&Tensor::new(shape, data), &form) {
            Ok(constant) => constant,
            Err(e) => return self.error(at, e.to_string()),
        };
        let found = encoding::codebook(constant.encoding());
        if let (Some((bits, k)), Some((found_bits, found_k))) = (written.codebook, found)
            && (bits, k) != (found_bits, found_k)
        {
            return self.error(at, format!("the elements make clustered(u{found_bits}, k={found_k})"));
        }
        Ok(Op::Const(constant.into()))
    }

    /// `#` and eight hexadecimal digits.
    fn hash(&mut self) -> Parsed<u32> {
        self.expect('#')?;
        let at = self.at;
        let word = self.bare("a hash of eight hexadecimal digits")?;
        match u32::from_str_radix(word, 16) {
            Ok(hash) if word.len() == 8 => Ok(hash),
            _ => self.error(at, "expected a hash of eight hexadecimal digits"),
        }
    }

    // Encodings.

    fn encoding(&mut self, depth: usize) -> Parsed<Written> {
        if depth > MAX_DEPTH {
            return self.error(self.at, "nested too deep");
        }
        let at = self.at;
        match self.bare("an encoding")? {
            "dense" => Ok(Written { form: Some(Form::Dense), codebook: None }),
            "sparse" => {
                self.expect('(')?;
                let pattern = self.pattern()?;
                let values = match self.eat(',')? {
                    true => self.encoding(depth + 1)?,
                    false => Written { form: Some(Form::Dense), codebook: None },
                };
                self.expect(')')?;
                let form = values.form.map(|values| Form::Sparse(pattern, Box::new(values)));
                Ok(Written { form, codebook: values.codebook })
            }
            "clustered" => {
                let codebook = if self.at_punct('(') { Some(self.codebook()?) } else { None };
                Ok(Written { form: Some(Form::Clustered), codebook })
            }
            "quant" => Ok(Written { form: self.quantized()?.map(Form::Quantized), codebook: None }),
            word => self.error(at, format!("expected sparse(…), clustered, quant(…), `=` or `#`, found `{word}`")),
        }
    }

    fn pattern(&mut self) -> Parsed<PatternForm> {
        let at = self.at;
        match self.bare("a pattern")? {
            "bitmap" => Ok(PatternForm::Bitmap),
            "csr" => Ok(PatternForm::Csr),
            "relative" => {
                self.expect('(')?;
                let bits = self.number("bits a distance")?;
                self.expect(')')?;
                Ok(PatternForm::Relative(bits))
            }
            "nofm" => self.pair().map(|(n, m)| PatternForm::NofM(n, m)),
            "block" => self.pair().map(|(rows, columns)| PatternForm::Block(rows, columns)),
            word => {
                self.error(at, format!("expected bitmap, csr, relative(8), nofm(2, 4) or block(1, 16), found `{word}`"))
            }
        }
    }

    fn pair(&mut self) -> Parsed<(usize, usize)> {
        self.expect('(')?;
        let first = self.number("a number")?;
        self.expect(',')?;
        let second = self.number("a number")?;
        self.expect(')')?;
        Ok((first, second))
    }

    /// `(u4, k=16)`
    fn codebook(&mut self) -> Parsed<(u8, usize)> {
        self.expect('(')?;
        let at = self.at;
        let word = self.bare("the type of the codes, such as `u4`")?;
        let Some(bits) = word.strip_prefix('u').and_then(|bits| bits.parse().ok()) else {
            return self.error(at, "expected the type of the codes, such as `u4`");
        };
        self.expect(',')?;
        self.key("k")?;
        let k = self.number("the number of clusters")?;
        self.expect(')')?;
        Ok((bits, k))
    }

    fn key(&mut self, key: &str) -> Parsed<()> {
        if self.token != Token::Bare(key) {
            return self.expected(&format!("`{key}=`"));
        }
        self.advance()?;
        self.expect('=')
    }

    /// `(bits=4, axis=0, scales=[…], zeros=[…])`; `None` if scales or zeros are hashed.
    fn quantized(&mut self) -> Parsed<Option<QuantParams>> {
        self.expect('(')?;
        let at = self.at;
        let (mut bits, mut axis, mut scales, mut zeros, mut hashed) = (None, None, None, None, false);
        self.list(')', |p| {
            let at = p.at;
            let key = p.bare("bits, axis, scales or zeros")?;
            p.expect('=')?;
            match key {
                "bits" => bits = Some(p.number("bits a code")?),
                "axis" => axis = Some(p.number("an axis")?),
                "scales" | "zeros" if p.at_punct('#') => {
                    p.hash()?;
                    hashed = true;
                }
                "scales" => scales = Some(p.floats()?),
                "zeros" => zeros = Some(p.floats()?),
                _ => return p.error(at, format!("expected bits, axis, scales or zeros, found `{key}`")),
            }
            Ok(())
        })?;
        if hashed {
            return Ok(None);
        }
        let (Some(bits), Some(scales)) = (bits, scales) else {
            return self.error(at, "quant needs bits and scales");
        };
        let zeros = zeros.unwrap_or_else(|| vec![0.0; scales.len()]);
        Ok(Some(QuantParams { bits, axis, scales, zeros }))
    }

    fn floats(&mut self) -> Parsed<Vec<f32>> {
        self.expect('[')?;
        self.list(']', Self::element::<f32>)
    }

    // Elements.

    fn payload(&mut self, ty: &TensorType, len: usize) -> Parsed<Data> {
        if self.eat('[')? {
            return self.elements(ty.dtype, None);
        }
        let at = self.at;
        let generator = self.bare("`[` and elements, splat(x), uniform(…) or normal(…)")?;
        self.generated = self.generated.saturating_add(len.saturating_mul(ty.dtype.bits().max(8) / 8));
        if self.generated > MAX_GENERATED {
            return self.error(at, format!("more than {MAX_GENERATED} bytes of elements that are not spelled out"));
        }
        self.expect('(')?;
        match generator {
            "splat" => self.elements(ty.dtype, Some(len)),
            "uniform" => {
                let seed = self.seed()?;
                let (lo, hi) = (self.parameter("lo")?, self.parameter("hi")?);
                self.expect(')')?;
                Ok(generate::uniform(ty.dtype, len, seed, lo, hi))
            }
            "normal" => {
                let seed = self.seed()?;
                let std = self.parameter("std")?;
                self.expect(')')?;
                Ok(generate::normal(ty.dtype, len, seed, std))
            }
            word => self.error(at, format!("expected splat, uniform or normal, found `{word}`")),
        }
    }

    fn seed(&mut self) -> Parsed<u64> {
        self.key("seed")?;
        self.number("a seed")
    }

    /// `, key=number`
    fn parameter(&mut self, key: &str) -> Parsed<f64> {
        self.expect(',')?;
        self.key(key)?;
        self.element()
    }

    /// The elements up to `]`, or the one up to `)` repeated.
    fn elements(&mut self, dtype: DType, splat: Option<usize>) -> Parsed<Data> {
        Ok(match dtype {
            DType::F64 => Data::F64(self.typed(splat)?),
            DType::F32 => Data::F32(self.typed(splat)?),
            DType::F16 => Data::F16(self.typed(splat)?),
            DType::BF16 => Data::BF16(self.typed(splat)?),
            DType::I64 => Data::I64(self.typed(splat)?),
            DType::I32 => Data::I32(self.typed(splat)?),
            DType::I16 => Data::I16(self.typed(splat)?),
            DType::I8 => Data::I8(self.typed(splat)?),
            DType::I4 => Data::I4(self.nibbles(splat, -8..=7)?),
            DType::U64 => Data::U64(self.typed(splat)?),
            DType::U32 => Data::U32(self.typed(splat)?),
            DType::U16 => Data::U16(self.typed(splat)?),
            DType::U8 => Data::U8(self.typed(splat)?),
            DType::U4 => Data::U4(self.nibbles(splat, 0..=15)?),
            DType::Bool => Data::Bool(self.typed(splat)?),
        })
    }

    fn nibbles<T: Element + PartialOrd>(
        &mut self,
        splat: Option<usize>,
        range: std::ops::RangeInclusive<T>,
    ) -> Parsed<Vec<T>> {
        let at = self.at;
        let elements = self.typed(splat)?;
        match elements.iter().all(|x| range.contains(x)) {
            true => Ok(elements),
            false => self.error(at, "an element does not fit four bits"),
        }
    }

    fn typed<T: Element>(&mut self, splat: Option<usize>) -> Parsed<Vec<T>> {
        let Some(len) = splat else { return self.list(']', Self::element) };
        let element = self.element()?;
        self.expect(')')?;
        Ok(vec![element; len])
    }

    fn element<T: Element>(&mut self) -> Parsed<T> {
        if let Token::Bare(word) = self.token
            && let Some(element) = T::read(word)
        {
            self.advance()?;
            return Ok(element);
        }
        self.expected(T::EXPECTS)
    }
}
