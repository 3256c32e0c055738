//! The recipes that come with optc.

use std::path::Path;

use super::parse::parse;
use super::recipe::Recipe;
use crate::error::Error;
use crate::files;

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../recipes/", $name, ".toml")))),*]
    };
}

/// Names and texts, in the order they build on each other.
pub const RECIPES: &[(&str, &str)] = recipes![
    "lenet-300-100",
    "lenet-300-100-pruned",
    "lenet-300-100-deep",
    "lenet-300-100-tiny",
    "lenet-5",
    "lenet-5-pruned",
    "lenet-5-deep",
    "lenet-5-tiny",
];

/// The recipe of this name, or in this file.
///
/// # Errors
/// [`Error::Usage`] if there is none, or it can't be understood; [`Error::File`] if it can't be read.
pub fn find(name: &str) -> Result<Recipe, Error> {
    if let Some((name, text)) = RECIPES.iter().find(|(known, _)| *known == name) {
        return parse(text, &format!("recipe {name}"), name);
    }
    let path = Path::new(name);
    if !path.is_file() && path.extension().is_none() {
        let names: Vec<&str> = RECIPES.iter().map(|(name, _)| *name).collect();
        return Err(Error::Usage(format!("there is no recipe {name}, nor a file; recipes are {}", names.join(", "))));
    }
    let text = String::from_utf8(files::read(path)?)
        .map_err(|e| Error::Usage(format!("{}: not text: {e}", path.display())))?;
    let stem = path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
    parse(&text, &path.display().to_string(), &stem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architectures::{NewOptions, build};

    #[test]
    fn every_recipe_reads_and_the_models_they_name_are_there() {
        for (name, _) in RECIPES {
            let recipe = find(name).unwrap();
            assert!(!recipe.about.is_empty(), "{name}");
            if let Some(model) = &recipe.model {
                build(model, &NewOptions::default()).unwrap();
            }
        }
        assert!(find("lenet-9").unwrap_err().to_string().contains("lenet-5-tiny"));
    }
}
