//! Case files: a graph as text with a head of `// key: value` lines.

use optc_ir::{Graph, text, verify};

use crate::inputs::InputSpec;

/// The keys a head may have.
const KEYS: &[&str] =
    &["run", "bind", "range", "data", "not-run", "error", "fixed", "zero", "refused", "optimizer", "loss", "keep"];

/// One case file.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its folder, relative to the crate.
    pub folder: String,
    /// Its stem.
    pub name: String,
    /// The whole file.
    pub text: String,
    head: Vec<(String, String)>,
}

impl Case {
    /// Reads `folder/name.ir`.
    ///
    /// # Panics
    /// If it can't be read, or its head has a key that does not exist.
    pub fn load(folder: &str, name: &str) -> Case {
        let path = crate::root().join(folder).join(format!("{name}.ir"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut head = Vec::new();
        for line in text.lines().map_while(|line| line.strip_prefix("//")) {
            let Some((key, value)) = line.split_once(':') else { continue };
            let (key, value) = (key.trim(), value.trim());
            if key.contains(char::is_whitespace) {
                continue;
            }
            assert!(KEYS.contains(&key), "{folder}/{name}.ir: unknown key {key}; keys are {}", KEYS.join(", "));
            head.push((key.to_owned(), value.to_owned()));
        }
        Case { folder: folder.to_owned(), name: name.to_owned(), text, head }
    }

    /// The value of a key of the head.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.head.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The graph, verified, and after a check that its text form is stable.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn graph(&self) -> Result<Graph, String> {
        let graph = text::parse(&self.text).map_err(|e| e.to_string())?;
        verify::verify(&graph).map_err(|e| e.to_string())?;
        round_trip(&graph)?;
        Ok(graph)
    }

    /// How to make inputs: `range` of numbers and `bind` of symbols.
    ///
    /// # Errors
    /// If the head can't be understood.
    pub fn inputs(&self) -> Result<InputSpec, String> {
        let mut spec = InputSpec::default();
        if let Some(range) = self.get("range") {
            let ends = range.split_once("..").map(|(lo, hi)| (lo.parse(), hi.parse()));
            let Some((Ok(lo), Ok(hi))) = ends else { return Err(format!("range: {range} is not `lo..hi`")) };
            spec.range = (lo, hi);
        }
        for binding in self.get("bind").iter().flat_map(|bindings| bindings.split(',')) {
            let parts = binding.split_once('=').map(|(name, n)| (name.trim().to_owned(), n.trim().parse()));
            let Some((name, Ok(n))) = parts else { return Err(format!("bind: {binding} is not `name=number`")) };
            spec.bind.push((name, n));
        }
        Ok(spec)
    }
}

/// Checks that lossless text gives the graph back, and that shortened text prints the same again.
///
/// # Errors
/// What differs.
pub fn round_trip(graph: &Graph) -> Result<(), String> {
    let lossless = text::print(graph, &text::PrintOptions::lossless());
    let back = text::parse(&lossless).map_err(|e| format!("{e}\n{lossless}"))?;
    if back != *graph {
        return Err(format!("the text is of another graph:\n{lossless}"));
    }
    let short = graph.to_string();
    let again = text::parse(&short).map_err(|e| format!("{e}\n{short}"))?.to_string();
    if again != short {
        return Err(format!("the text changes when read and printed:\n{}", crate::diff::diff(&short, &again)));
    }
    Ok(())
}
