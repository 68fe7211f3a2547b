//! Reading what was written to disk, or what a person sent: every error names the field, its value and what was expected.
//! A field that nobody asks for is refused: it is a slip, or from a version that knows more than this one.

use serde_json::{Map, Value};

/// Most characters of a value shown in an error.
const SHOWN: usize = 80;

/// What is wrong with a document.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JsonError {
    /// No JSON.
    #[error("this is no JSON: {error}; restore the file from a backup, or remove it to begin with none")]
    Syntax {
        /// Where, and what.
        error: String,
    },
    /// A value that does not fit.
    #[error("field `{field}` is {value}, expected {expected}")]
    Value {
        /// Its place, as in `bans[3].until`.
        field: String,
        /// What stands there, shortened.
        value: String,
        /// What should.
        expected: String,
    },
    /// A field that does not exist.
    #[error("field `{field}` is unknown (its value is {value}); known here: {known}. Correct or remove it")]
    Unknown {
        /// Its place.
        field: String,
        /// What stands there, shortened.
        value: String,
        /// Those that exist, separated by commas.
        known: String,
    },
}

/// An object being read: fields are taken out, and what is left at the end is unknown.
#[derive(Debug)]
pub struct Fields {
    /// Where it stands; empty for the document itself.
    path: String,
    map: Map<String, Value>,
    /// Names asked for.
    known: Vec<&'static str>,
}

impl Fields {
    /// The document.
    pub fn document(text: &str) -> Result<Fields, JsonError> {
        let value =
            serde_json::from_str(text).map_err(|error| JsonError::Syntax { error: error.to_string() })?;
        Fields::new(String::new(), value)
    }

    /// An object at this place.
    pub fn new(path: String, value: Value) -> Result<Fields, JsonError> {
        match value {
            Value::Object(map) => Ok(Fields { path, map, known: Vec::new() }),
            other => {
                let field = if path.is_empty() { "(document)".into() } else { path };
                Err(JsonError::Value { field, value: shown(&other), expected: "an object".into() })
            }
        }
    }

    /// Takes a field out; null when it is not there.
    pub fn take(&mut self, name: &'static str) -> Value {
        self.known.push(name);
        self.map.remove(name).unwrap_or(Value::Null)
    }

    /// A field by a reader that knows what it can use, and says what it expects.
    pub fn read<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        reader: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, JsonError> {
        let value = self.take(name);
        reader(&value).ok_or_else(|| self.error(name, &value, expected))
    }

    /// A list of objects, at most `most` of them.
    pub fn objects(&mut self, name: &'static str, most: usize) -> Result<Vec<Fields>, JsonError> {
        let expected = format!("a list of at most {most} objects");
        match self.take(name) {
            Value::Array(list) if list.len() <= most => {
                let path = |n| format!("{}[{n}]", self.path_of(name));
                list.into_iter().enumerate().map(|(n, value)| Fields::new(path(n), value)).collect()
            }
            Value::Array(list) => Err(JsonError::Value {
                field: self.path_of(name),
                value: format!("a list of {}", list.len()),
                expected,
            }),
            other => Err(self.error(name, &other, &expected)),
        }
    }

    /// The error about a field's value.
    pub fn error(&self, name: &str, value: &Value, expected: &str) -> JsonError {
        let value = if value.is_null() { "missing".into() } else { shown(value) };
        JsonError::Value { field: self.path_of(name), value, expected: expected.into() }
    }

    /// All has been asked for; a field that is left is an error.
    pub fn finish(self) -> Result<(), JsonError> {
        match self.map.iter().next() {
            None => Ok(()),
            Some((name, value)) => Err(JsonError::Unknown {
                field: self.path_of(name),
                value: shown(value),
                known: self.known.join(", "),
            }),
        }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        None => text,
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field_the_value_and_what_was_expected() {
        let mut fields =
            Fields::document(r#"{"bans":[{"until":"never"}],"version":1,"colour":"blue"}"#).unwrap();
        assert_eq!(fields.read("version", "1", Value::as_u64), Ok(1));
        let mut ban = fields.objects("bans", 1).unwrap().remove(0);
        assert_eq!(
            ban.read("until", "seconds", Value::as_u64).unwrap_err().to_string(),
            "field `bans[0].until` is \"never\", expected seconds"
        );
        assert_eq!(
            ban.read("since", "seconds", Value::as_u64).unwrap_err().to_string(),
            "field `bans[0].since` is missing, expected seconds"
        );
        assert_eq!(
            fields.finish().unwrap_err().to_string(),
            "field `colour` is unknown (its value is \"blue\"); known here: version, bans. Correct or remove it"
        );
    }

    #[test]
    fn long_values_are_shortened_and_lists_bounded() {
        let text = format!(r#"{{"a":"{}","b":[{{}},{{}}]}}"#, "é".repeat(500));
        let mut fields = Fields::document(&text).unwrap();
        let error = fields.read("a", "less", Value::as_u64).unwrap_err().to_string();
        assert!(error.chars().count() < 130, "{error}");
        let error = fields.objects("b", 1).unwrap_err().to_string();
        assert_eq!(error, "field `b` is a list of 2, expected a list of at most 1 objects");
        let error = Fields::document("[1]").unwrap_err().to_string();
        assert_eq!(error, "field `(document)` is [1], expected an object");
        assert!(Fields::document("{").unwrap_err().to_string().starts_with("this is no JSON: EOF"));
    }
}
