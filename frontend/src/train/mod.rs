//! Training and compression by recipe: what `optc train` does.
//!
//! A [`Recipe`] is read from TOML (`recipe`, `parse`, `builtin`), told to the training engine and to passes
//! (`engine`), and run stage by stage (`run`). After every epoch the whole state is one file (`checkpoint`) from
//! which the run goes on; what happened is the [`History`].
//!
//! Invariant: what a run writes follows from the model, the data, the recipe and the seed alone, however often it
//! was stopped and whatever the number of threads.

mod builtin;
mod checkpoint;
mod engine;
mod history;
mod parse;
pub mod recipe;
mod run;

pub use builtin::{RECIPES, find};
pub use history::{EpochRow, History, StageRow};
pub use parse::parse;
pub use recipe::Recipe;
pub use run::{CHECKPOINT, Event, Outcome, Run, TrainingData};

#[cfg(test)]
mod tests {
    use super::recipe::*;
    use super::*;

    fn error(text: &str) -> String {
        parse(text, "r.toml", "r").unwrap_err().to_string()
    }

    #[test]
    fn a_recipe_reads_as_it_is_written() {
        let text = r#"
            about = "a test"
            model = "lenet-5"
            [data]
            scale = "1/255"
            [[stage]]
            do = "train"
            epochs = 3
            dropout = { fc1 = 0.5 }
            [[stage]]
            do = "prune"
            sparsity = 0.9
            scope = "global"
            lr = 1e-4
            [[stage]]
            do = "cluster"
            bits = { fc1 = 4, fc2 = 5 }
            [[stage]]
            name = "code"
            do = "passes"
            passes = "simplify,encode-weights"
        "#;
        let recipe = parse(text, "r.toml", "r").unwrap();
        assert_eq!(recipe.data.scale, Fraction(1.0 / 255.0));
        let names: Vec<(&str, usize)> = recipe.stages.iter().map(|stage| (stage.name.as_str(), stage.line)).collect();
        assert_eq!(names, [("train", 7), ("prune", 11), ("cluster", 16), ("code", 20)]);
        let Work::Prune(prune, training) = &recipe.stages[1].work else { panic!("the second stage prunes") };
        assert_eq!((prune.sparsity.clone(), prune.scope), (Some(PerLayer::All(0.9)), Scope::Global));
        assert_eq!((training.lr, training.epochs), (1e-4, 10));
    }

    #[test]
    fn errors_name_file_line_and_key() {
        assert_eq!(error("about = 3"), "r.toml:1: about: invalid type: integer `3`, expected a string");
        assert!(error("\nspeed = 3").starts_with("r.toml:2: unknown key speed"));
        assert!(error("seed = 1").starts_with("r.toml:1: there are no stages"));
        let stage = |text: &str| error(&format!("[[stage]]\n{text}"));
        assert!(stage("epochs = 3").contains("do is missing"));
        assert!(stage("do = 'fly'").starts_with("r.toml:2: do: \"fly\" is nothing a stage can do"));
        assert_eq!(stage("do = 'train'\nlr = 'x'"), "r.toml:3: lr: invalid type: string \"x\", expected f64");
        assert!(stage("do = 'train'\nloss = 'huber'").contains("r.toml:3: loss: unknown variant `huber`"));
        assert!(stage("do = 'train'\nsparsity = 1").starts_with("r.toml:3: unknown key sparsity; train takes epochs"));
        assert!(stage("do = 'prune'\nspeed = 1").contains("r.toml:3: unknown field `speed`"));
        assert!(stage("do = 'prune'\nq = 1\nsparsity = 0.5").contains("r.toml:2: prune takes sparsity or q"));
        assert!(stage("do = 'cluster'\nk = [1]").contains("r.toml:3: k: expected a number, or a table"));
        assert!(stage("do = 'passes'\npasses = 'simplyfy'").contains("r.toml:3: passes: unknown pass simplyfy"));
        assert!(error("[[stage]\n").starts_with("r.toml:1: "));
    }
}
