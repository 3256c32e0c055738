//! Reading recipes. Every error names the file, the line, and the key.

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::recipe::{Constraint, Recipe, Stage, Training, Work};
use crate::error::Error;

/// The keys of [`Training`], which stages that train have beside their own.
const TRAINING: &[&str] = &[
    "epochs",
    "batch",
    "optimizer",
    "lr",
    "momentum",
    "schedule",
    "lr-end",
    "lr-every",
    "lr-decay",
    "warmup",
    "loss",
    "smoothing",
    "distill",
    "temperature",
    "l1",
    "l2",
    "dropout",
    "adjust-dropout",
    "shift",
    "flip",
];

/// What stages can do.
pub(super) const WORKS: &[&str] =
    &["train", "prune", "retrain", "cluster", "fine-tune", "filter-prune", "passes", "evaluate"];

/// Reads a recipe. `file` is what errors call it, `name` what it is called from then on.
///
/// # Errors
/// [`Error::Usage`], `file:line: message`.
pub fn parse(text: &str, file: &str, name: &str) -> Result<Recipe, Error> {
    let source = Source { text, file };
    let mut table = DeTable::parse(text).map_err(|e| source.toml(&e))?.into_inner();
    let mut take = |key: &str| table.remove(key);
    let about = take("about").map(|v| source.read::<String>(v)).transpose()?.unwrap_or_default();
    let model = take("model").map(|v| source.read(v)).transpose()?;
    let seed = take("seed").map(|v| source.read(v)).transpose()?.unwrap_or(0);
    let data = take("data").map(|v| source.read(v)).transpose()?.unwrap_or_default();
    let stages = take("stage");
    if let Some((key, _)) = table.iter().next() {
        let message = format!("unknown key {}; a recipe has about, model, seed, data and stage", key.get_ref());
        return Err(source.at(key.span().start, &message));
    }
    let stages = match stages.map(Spanned::into_inner) {
        Some(DeValue::Array(stages)) => {
            stages.into_iter().map(|stage| source.stage(stage)).collect::<Result<_, _>>()?
        }
        _ => Vec::new(),
    };
    let recipe = Recipe { name: name.to_owned(), about, model, seed, data, stages };
    if recipe.stages.is_empty() {
        return Err(source.at(0, "there are no stages; each begins with [[stage]]"));
    }
    Ok(recipe)
}

struct Source<'a> {
    text: &'a str,
    file: &'a str,
}

impl<'a> Source<'a> {
    fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count()
    }

    fn at(&self, offset: usize, message: &str) -> Error {
        Error::Usage(format!("{}:{}: {message}", self.file, self.line(offset)))
    }

    /// An error of the TOML reader, with the key it is about.
    fn toml(&self, error: &toml::de::Error) -> Error {
        let offset = error.span().map_or(0, |span| span.start);
        let line = self.text.lines().nth(self.line(offset) - 1).unwrap_or_default();
        let key = line.split_once('=').map(|(key, _)| key.trim()).filter(|key| !error.message().contains(*key));
        let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
        self.at(offset, &format!("{key}{}", error.message().trim_end()))
    }

    fn read<T: DeserializeOwned>(&self, value: Spanned<DeValue<'a>>) -> Result<T, Error> {
        T::deserialize(serde::de::IntoDeserializer::into_deserializer(value)).map_err(|e| self.toml(&e))
    }

    fn stage(&self, value: Spanned<DeValue<'a>>) -> Result<Stage, Error> {
        let span = value.span();
        let DeValue::Table(mut own) = value.into_inner() else {
            return Err(self.at(span.start, "a stage is a table, and begins with [[stage]]"));
        };
        let what = own.remove("do").ok_or_else(|| {
            self.at(span.start, &format!("do is missing: what the stage does, one of {}", WORKS.join(", ")))
        })?;
        let at = what.span().start;
        let what: String = self.read(what)?;
        let name = own.remove("name").map(|v| self.read(v)).transpose()?.unwrap_or_else(|| what.clone());
        let mut training = DeTable::new();
        let trains = matches!(what.as_str(), "train" | "prune" | "retrain" | "fine-tune");
        if trains {
            for &key in TRAINING {
                if let Some((key, value)) = own.remove_entry(key) {
                    training.insert(key, value);
                }
            }
        }
        let training: Training = self.table(training, span.clone())?;
        self.check(&training, at)?;
        let work = match what.as_str() {
            "train" => Work::Train(Constraint::None, training),
            "retrain" => Work::Train(Constraint::Zeros, training),
            "fine-tune" => Work::Train(Constraint::Clusters, training),
            "prune" => {
                let prune: super::recipe::Prune = self.table(std::mem::take(&mut own), span.clone())?;
                if prune.sparsity.is_some() == prune.q.is_some() {
                    return Err(self.at(at, "prune takes sparsity or q: one of them"));
                }
                if !(prune.over > 0.0 && prune.over <= 1.0) || prune.rate == 0 {
                    return Err(self.at(at, "over is more than 0 and at most 1, rate at least 1"));
                }
                Work::Prune(prune, training)
            }
            "cluster" => {
                let cluster: super::recipe::Cluster = self.table(std::mem::take(&mut own), span.clone())?;
                if cluster.k.is_some() == cluster.bits.is_some() {
                    return Err(self.at(at, "cluster takes k or bits: one of them"));
                }
                Work::Cluster(cluster)
            }
            "filter-prune" => Work::FilterPrune(self.table(std::mem::take(&mut own), span.clone())?),
            "passes" => {
                let text = own.remove("passes").ok_or_else(|| self.at(at, "passes is missing: a pipeline"))?;
                let line = text.span().start;
                let text: String = self.read(text)?;
                optc_passes::pipeline::parse(&text).map_err(|e| self.at(line, &format!("passes: {e}")))?;
                Work::Passes(text)
            }
            "evaluate" => Work::Evaluate(self.table(std::mem::take(&mut own), span.clone())?),
            _ => {
                let message = format!("do: {what:?} is nothing a stage can do; those are {}", WORKS.join(", "));
                return Err(self.at(at, &message));
            }
        };
        if let Some((key, _)) = own.iter().next() {
            let keys = if trains { TRAINING.join(", ") } else { "name, passes".to_owned() };
            let message = format!("unknown key {}; {what} takes {keys}", key.get_ref());
            return Err(self.at(key.span().start, &message));
        }
        Ok(Stage { name, line: self.line(at), work })
    }

    fn table<T: DeserializeOwned>(&self, table: DeTable<'a>, span: std::ops::Range<usize>) -> Result<T, Error> {
        T::deserialize(Deserializer::from(Spanned::new(span, table))).map_err(|e| self.toml(&e))
    }

    fn check(&self, training: &Training, at: usize) -> Result<(), Error> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let share = |x: f64| (0.0..1.0).contains(&x);
        let wrong = if training.batch == 0 {
            "batch is at least 1"
        } else if !positive(training.lr) {
            "lr is more than 0"
        } else if !positive(training.temperature) {
            "temperature is more than 0"
        } else if !(0.0..=1.0).contains(&training.distill) {
            "distill is from 0 to 1"
        } else if !share(training.momentum) {
            "momentum is from 0 to below 1"
        } else if ![training.l1, training.l2, training.warmup, training.lr_end, training.lr_decay]
            .iter()
            .all(|x| *x >= 0.0 && x.is_finite())
        {
            "l1, l2, warmup, lr-end and lr-decay are not negative"
        } else if !training.dropout.values().chain([&training.smoothing]).all(|&rate| share(rate)) {
            "dropout and smoothing are from 0 to below 1"
        } else {
            return Ok(());
        };
        Err(self.at(at, wrong))
    }
}
