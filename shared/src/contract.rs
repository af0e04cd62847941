//! What a webhook's JSON body has to look like, as a JSON Schema.
//!
//! Drafts 4, 6, 7, 2019-09 and 2020-12, by the schema's `$schema`; 2020-12 if it has none. `format` is an annotation, as the standard
//! has it by default: it refuses nothing. `$ref` reaches what is in the schema, and nothing else. Patterns have no lookaround and no
//! backreferences, so that no body makes one take for ever.
//!
//! A check is counted like an expression ([`crate::jq`]), and says nothing of the body but where it breaks the contract.

use std::{borrow::Cow, collections::BTreeSet, fmt, sync::Arc};

use jsonschema::{
    JsonType, PatternOptions, ValidationError, Validator,
    error::ValidationErrorKind,
    json::{Array, JsonNumber, Node, NodeIdentity, Object},
    paths::Location,
};
use serde_json::Value;

use crate::jq::{JqFailure, JqInput, json, json::Json, meter, number::Number};

/// Largest pattern, in bytes once it is compiled.
pub const PATTERN_BYTES_MAX: usize = 64 * 1024;
/// Longest pointer that is told, in bytes. The rest of a longer one is left out.
pub const POINTER_BYTES_MAX: usize = 256;

/// One step for so many bytes of a string that a pattern is tried on.
const PATTERN_BYTES_PER_STEP: usize = 8;

/// A JSON Schema, compiled.
pub struct Contract {
    validator: Validator<Counted>,
    /// All names in the schema. Another name in a body is not told: it may be anything.
    names: BTreeSet<String>,
}

impl fmt::Debug for Contract {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Contract(..)")
    }
}

/// Where a body breaks its contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("does not keep its contract{}: {keyword}", place(pointer))]
pub struct Violation {
    /// In the body, as a JSON pointer; `*` stands for each name that the schema does not have.
    pub pointer: String,
    /// The keyword of JSON Schema that is broken.
    pub keyword: String,
    /// Where that keyword stands in the schema, as a JSON pointer.
    pub schema_pointer: String,
}

/// Why a body does not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractFailure {
    /// It breaks the contract.
    #[error(transparent)]
    Broken(#[from] Violation),
    /// It takes too much to find out.
    #[error("the contract cannot be checked: {0}")]
    Unchecked(JqFailure),
}

impl Contract {
    /// Compiles a schema. The error says what is wrong with it, and where.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        let build = || {
            jsonschema::options_for::<Counted>()
                .offline()
                .should_validate_formats(false)
                .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
                .build(schema)
                .map_err(|error| unusable(&error))
        };
        let validator = meter::run(build).map_err(|stopped| JqFailure::from(stopped).to_string())??;
        let mut names = BTreeSet::new();
        collect_names(schema, &mut names);
        Ok(Self { validator, names })
    }

    /// Whether a body keeps it.
    pub fn check(&self, input: &JqInput) -> Result<(), ContractFailure> {
        let body = &input.body;
        let checked = meter::run(|| self.validator.validate(body).map_err(|error| self.violation(&error, body)));
        checked.map_err(|stopped| ContractFailure::Unchecked(stopped.into()))?.map_err(ContractFailure::Broken)
    }

    fn violation(&self, error: &ValidationError<'_>, body: &Json) -> Violation {
        Violation {
            pointer: self.tellable(error.instance_path(), body),
            keyword: error.kind().keyword().to_owned(),
            schema_pointer: shortened(error.schema_path().as_str().to_owned()),
        }
    }

    /// A place in the body without what only the body says.
    fn tellable(&self, place: &Location, body: &Json) -> String {
        let (mut pointer, mut value) = (String::new(), Some(body));
        for segment in place {
            let segment = segment.to_string();
            let is_index = matches!(value, Some(Json::Array(_)));
            value = match value {
                Some(Json::Array(array)) => segment.parse().ok().and_then(|at: usize| array.elements.get(at)),
                Some(Json::Object(object)) => object.members.get(&*segment),
                _ => None,
            };
            let is_told = is_index || self.names.contains(&segment);
            pointer.push('/');
            pointer.push_str(if is_told { &segment } else { "*" });
        }
        shortened(pointer)
    }
}

fn place(pointer: &str) -> String {
    if pointer.is_empty() { String::new() } else { format!(" at {pointer}") }
}

fn shortened(mut pointer: String) -> String {
    if pointer.len() > POINTER_BYTES_MAX {
        pointer.truncate(pointer.floor_char_boundary(POINTER_BYTES_MAX));
    }
    pointer
}

fn unusable(error: &ValidationError<'_>) -> String {
    if let ValidationErrorKind::Referencing(error) = error.kind() {
        return format!("the schema refers to what it does not have ({error}); write that into its `$defs`");
    }
    format!("the schema is wrong{}: {error}", place(error.instance_path().as_str()))
}

fn collect_names(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            for (name, value) in members {
                names.insert(name.clone());
                collect_names(value, names);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| collect_names(element, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Our values as the validator reads them. It can do nothing without asking here, and so it is here that its steps are counted.
struct Counted;

impl jsonschema::json::Json for Counted {
    type Node<'a> = &'a Json;
    type PreparedKey = String;
    type StringBuffer = ();

    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(&Json) -> T) -> T {
        f(&Json::text(string))
    }
}

impl<'a> Node<'a, Counted> for &'a Json {
    type Object = &'a json::Object;
    type Array = &'a json::Array;
    type Number = &'a Number;

    fn as_object(&self) -> Option<&'a json::Object> {
        count();
        if let Json::Object(object) = self { Some(object) } else { None }
    }

    fn as_array(&self) -> Option<&'a json::Array> {
        count();
        if let Json::Array(array) = self { Some(array) } else { None }
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.as_text()?;
        meter::spend(1 + text.len() / PATTERN_BYTES_PER_STEP);
        Some(Cow::Borrowed(text))
    }

    fn as_number(&self) -> Option<&'a Number> {
        count();
        if let Json::Number(number) = self { Some(number) } else { None }
    }

    fn as_boolean(&self) -> Option<bool> {
        if let Json::Bool(flag) = self { Some(*flag) } else { None }
    }

    fn is_null(&self) -> bool {
        matches!(self, Json::Null)
    }

    fn json_type(&self) -> JsonType {
        count();
        match self {
            Json::Null => JsonType::Null,
            Json::Bool(_) => JsonType::Boolean,
            Json::Number(_) => JsonType::Number,
            Json::Text(_) => JsonType::String,
            Json::Array(_) => JsonType::Array,
            Json::Object(_) => JsonType::Object,
        }
    }

    fn string_length(&self) -> Option<u64> {
        let text = self.as_text()?;
        meter::spend_on_text(text.len());
        u64::try_from(text.chars().count()).ok()
    }

    fn equals_value(&self, expected: &Value) -> bool {
        equals(self, expected)
    }

    /// Only errors ask for this, and none of ours tells it.
    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Owned(Value::Null)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref::<Json>(self).addr()))
    }
}

/// Counts a step into or at a value.
fn count() {
    meter::spend(1);
    meter::check_stack();
}

fn equals(value: &Json, expected: &Value) -> bool {
    count();
    match (value, expected) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(flag), Value::Bool(expected)) => flag == expected,
        (Json::Number(number), Value::Number(expected)) => *number == Number::of_text(&expected.to_string()),
        (Json::Text(text), Value::String(expected)) => {
            meter::spend_on_text(expected.len());
            **text == **expected
        }
        (Json::Array(array), Value::Array(expected)) => {
            array.elements.len() == expected.len()
                && array.elements.iter().zip(expected).all(|(value, expected)| equals(value, expected))
        }
        (Json::Object(object), Value::Object(expected)) => {
            let has = |(name, expected): (&String, _)| object.members.get(&**name).is_some_and(|value| equals(value, expected));
            object.members.len() == expected.len() && expected.iter().all(has)
        }
        _ => false,
    }
}

impl<'a> Object<'a, Counted> for &'a json::Object {
    type Node = &'a Json;
    type MemberName = &'a str;
    type MembersIter = MembersIter<'a>;

    fn len(&self) -> usize {
        self.members.len()
    }

    fn get(&self, key: &String) -> Option<&'a Json> {
        meter::spend_on_text(key.len());
        self.members.get(&**key)
    }

    fn members(&self) -> MembersIter<'a> {
        MembersIter(self.members.iter())
    }
}

/// The members of an object, counted as they are taken.
struct MembersIter<'a>(indexmap::map::Iter<'a, Arc<str>, Json>);

impl<'a> Iterator for MembersIter<'a> {
    type Item = (&'a str, &'a Json);

    fn next(&mut self) -> Option<Self::Item> {
        meter::spend(1);
        self.0.next().map(|(name, value)| (&**name, value))
    }
}

impl<'a> Array<'a, Counted> for &'a json::Array {
    type Node = &'a Json;
    type ElementsIter = ElementsIter<'a>;

    fn len(&self) -> usize {
        self.elements.len()
    }

    fn elements(&self) -> ElementsIter<'a> {
        ElementsIter(self.elements.iter())
    }

    fn is_unique(&self) -> bool {
        meter::allocate(self.elements.len() * size_of::<&Json>());
        let mut sorted: Vec<&Json> = self.elements.iter().collect();
        sorted.sort();
        sorted.windows(2).all(|pair| pair[0] != pair[1])
    }
}

/// The elements of an array, counted as they are taken.
struct ElementsIter<'a>(std::slice::Iter<'a, Json>);

impl<'a> Iterator for ElementsIter<'a> {
    type Item = &'a Json;

    fn next(&mut self) -> Option<Self::Item> {
        meter::spend(1);
        self.0.next()
    }
}

impl JsonNumber for &Number {
    fn as_u64(&self) -> Option<u64> {
        self.integer()?.try_into().ok()
    }

    fn as_i64(&self) -> Option<i64> {
        self.integer()?.try_into().ok()
    }

    fn as_f64(&self) -> Option<f64> {
        Some(self.float().clamp(f64::MIN, f64::MAX))
    }

    fn as_str(&self) -> Cow<'_, str> {
        self.text()
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        let float = self.as_f64().and_then(serde_json::Number::from_f64);
        Cow::Owned(float.unwrap_or_else(|| serde_json::Number::from(0)))
    }

    fn is_integer(&self) -> bool {
        self.integer().is_some() || self.float().fract() == 0.0
    }

    fn is_written_as_integer(&self) -> bool {
        Number::is_written_as_integer(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jq::tests::input;

    fn contract(schema: Value) -> Contract {
        Contract::compile(&schema).unwrap()
    }

    fn broken(schema: Value, body: &str) -> Violation {
        match contract(schema).check(&input(body)) {
            Err(ContractFailure::Broken(violation)) => violation,
            other => panic!("{other:?}"),
        }
    }

    fn keeps(schema: Value, body: &str) -> bool {
        contract(schema).check(&input(body)).is_ok()
    }

    #[test]
    fn a_body_that_breaks_its_contract_is_told_where_and_by_what_and_never_what_it_is() {
        let schema = json!({"properties": {"data": {"properties": {"amount": {"type": "integer"}}}}});
        assert!(keeps(schema.clone(), r#"{"data":{"amount":12}}"#));
        let violation = broken(schema, r#"{"data":{"amount":"secret"}}"#);
        assert_eq!(violation.to_string(), "does not keep its contract at /data/amount: type");
        assert_eq!(violation.schema_pointer, "/properties/data/properties/amount/type");
        assert_eq!(broken(json!({"type": "object"}), "[]").to_string(), "does not keep its contract: type");
        assert_eq!(broken(json!({"items": {"type": "string"}}), r#"["a",1]"#).pointer, "/1");
    }

    #[test]
    fn the_documentation_says_what_is_so() {
        let (_, example) = include_str!("../../docs/routes.md").split_once("```json schema\n").unwrap();
        let blocks: Vec<&str> = example.split("```").step_by(2).take(5).collect();
        let documented = contract(serde_json::from_str(blocks[0]).unwrap());
        for pair in blocks[1..].chunks(2) {
            let (body, said) = (pair[0].strip_prefix("json\n").unwrap(), pair[1].strip_prefix("text\n").unwrap());
            let checked = documented.check(&input(body)).map_or_else(|failure| failure.to_string(), |()| "kept".to_owned());
            assert_eq!(checked, said.trim());
        }
    }

    #[test]
    fn a_name_that_only_the_body_has_is_not_told() {
        let schema = json!({"properties": {"known": {"additionalProperties": {"type": "integer"}}}});
        assert_eq!(broken(schema.clone(), r#"{"known":{"joe@example.com":"x"}}"#).pointer, "/known/*");
        assert_eq!(broken(schema, r#"{"known":{"4915112345":"x"}}"#).pointer, "/known/*");
    }

    #[test]
    fn a_pointer_is_cut_at_its_bound() {
        let check = |bytes: usize| {
            let name = "n".repeat(bytes - 1);
            broken(json!({"properties": {&name: {"type": "string"}}}), &format!("{{\"{name}\":1}}")).pointer
        };
        assert_eq!(check(POINTER_BYTES_MAX).len(), POINTER_BYTES_MAX);
        assert_eq!(check(POINTER_BYTES_MAX + 1).len(), POINTER_BYTES_MAX);
    }

    #[test]
    fn the_draft_is_the_schemas_and_2020_12_without_one() {
        let minimum = |draft: Option<&str>, exclusive: Value| {
            let mut schema = json!({"minimum": 5, "exclusiveMinimum": exclusive});
            if let Some(draft) = draft {
                schema["$schema"] = draft.into();
            }
            Contract::compile(&schema).map(|contract| contract.check(&input("5")).is_ok())
        };
        let draft_4 = Some("http://json-schema.org/draft-04/schema#");
        assert_eq!(minimum(draft_4, json!(true)), Ok(false));
        assert_eq!(minimum(draft_4, json!(false)), Ok(true));
        assert!(minimum(None, json!(true)).is_err());
        assert_eq!(minimum(Some("https://json-schema.org/draft/2020-12/schema"), json!(4)), Ok(true));
        assert_eq!(minimum(Some("http://json-schema.org/draft-07/schema#"), json!(5)), Ok(false));
        assert!(!keeps(json!({"prefixItems": [{"type": "string"}]}), "[1]"));
        let unevaluated = json!({"properties": {"a": true}, "unevaluatedProperties": false});
        assert!(keeps(unevaluated.clone(), r#"{"a":1}"#));
        assert!(!keeps(unevaluated, r#"{"b":1}"#));
    }

    #[test]
    fn formats_refuse_nothing_in_any_draft() {
        for draft in ["http://json-schema.org/draft-04/schema#", "https://json-schema.org/draft/2020-12/schema"] {
            assert!(keeps(json!({"$schema": draft, "format": "email"}), r#""no address""#));
        }
    }

    #[test]
    fn a_reference_stays_within_the_schema() {
        let inside = json!({"$ref": "#/$defs/id", "$defs": {"id": {"type": "integer"}}});
        assert!(keeps(inside.clone(), "1"));
        assert_eq!(broken(inside, "true").keyword, "type");
        for outside in ["https://example.com/schema.json", "file:///etc/passwd", "other.json", "#/$defs/missing"] {
            let error = Contract::compile(&json!({"$ref": outside})).unwrap_err();
            assert!(error.starts_with("the schema refers to what it does not have"), "{error}");
        }
        let error = Contract::compile(&json!({"properties": {"a": {"type": "text"}}})).unwrap_err();
        assert!(error.starts_with("the schema is wrong at /properties/a/type: "), "{error}");
    }

    #[test]
    fn numbers_are_compared_exactly() {
        let schema = json!({"const": 18_446_744_073_709_551_615_u64});
        assert!(keeps(schema.clone(), "18446744073709551615"));
        assert!(!keeps(schema, "18446744073709551614"));
        assert!(keeps(json!({"type": "integer"}), "1.0"));
        assert!(!keeps(json!({"type": "integer"}), "1.5"));
        assert!(keeps(json!({"type": "number", "minimum": 5}), "1e400"));
        assert!(keeps(json!({"enum": [12.1]}), "12.10"));
        assert!(keeps(json!({"multipleOf": 0.01}), "12.10"));
        assert!(!keeps(json!({"multipleOf": 0.1}), "12.11"));
        assert!(keeps(json!({"uniqueItems": true}), "[1,2,[1],{\"a\":1}]"));
        assert!(!keeps(json!({"uniqueItems": true}), "[1,2,1.0]"));
    }

    #[test]
    fn a_pattern_is_linear_and_bounded() {
        assert!(keeps(json!({"pattern": r"^\d{3}-\w+$"}), r#""123-abc""#));
        assert!(Contract::compile(&json!({"pattern": r"^(?=a)"})).is_err());
        assert!(Contract::compile(&json!({"pattern": r"(a)\1"})).is_err());
        // A hundred times as much as the bound, and far less than it.
        assert!(Contract::compile(&json!({"pattern": "a{200000}"})).is_err());
        assert!(Contract::compile(&json!({"pattern": "a{200}"})).is_ok());
        assert!(!keeps(json!({"pattern": "^(a*)*b$"}), &format!("\"{}\"", "a".repeat(100_000))));
    }

    #[test]
    fn a_contract_that_takes_too_many_steps_is_stopped() {
        let unwanted: Vec<_> = (1..=1000).map(|number| json!([number])).collect();
        let wide = json!({"items": {"not": {"enum": unwanted}}});
        assert!(keeps(wide.clone(), "[[0],[0]]"));
        let many = format!("[{}]", vec!["[0]"; 20_000].join(","));
        assert_eq!(contract(wide).check(&input(&many)), Err(ContractFailure::Unchecked(JqFailure::Steps)));
    }

    #[test]
    fn a_contract_that_looks_at_each_level_twice_ends() {
        let next = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        let schema = json!({"oneOf": [
            {"type": "integer"},
            {"allOf": [next], "required": ["next"]},
            {"allOf": [next], "required": ["next", "last"]}
        ]});
        let nested = |depth: usize| format!("{}1{}", "{\"next\":".repeat(depth), "}".repeat(depth));
        assert!(keeps(schema.clone(), &nested(3)));
        let deep = contract(schema).check(&input(&nested(100)));
        assert!(matches!(deep, Ok(()) | Err(ContractFailure::Unchecked(JqFailure::Steps))), "{deep:?}");
    }
}
