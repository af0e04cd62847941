//! Templates: what is said to cover the body, or a place, does.
//!
//! Input: a template, a line break, and a body. Places and variables have values made of the body.

#![no_main]

use std::borrow::Cow;

use fuzz::line;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use shared::signatures::{Template, TemplateValues, Variable};

struct Values {
    body: Vec<u8>,
    headers: HeaderMap,
}

impl TemplateValues for Values {
    fn value(&self, variable: &Variable) -> Option<Cow<'_, [u8]>> {
        match variable {
            Variable::Body | Variable::FormSorted | Variable::AwsSns => Some(Cow::Borrowed(&self.body)),
            Variable::Query => Some(Cow::Borrowed(b"")),
            Variable::At(place) if place.to_string().ends_with("none") => None,
            other => Some(Cow::Owned(other.to_string().into_bytes())),
        }
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn key(&self) -> &[u8] {
        b"key"
    }
}

fuzz_target!(|data: &[u8]| {
    let (text, body) = line(data);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(template) = Template::try_from(text.to_owned()) else { return };
    let headers = ["x-a", "x-b"].map(|name| (http::HeaderName::from_static(name), HeaderValue::from_static("value")));
    let mut values = Values { body: body.to_vec(), headers: HeaderMap::from_iter(headers) };

    let mut pieces = Vec::new();
    let fed = template.feed(&values, &mut |piece: &[u8]| pieces.extend_from_slice(piece));
    let rendered = template.render(&values);
    assert_eq!(fed.is_ok(), rendered.is_ok());
    if let Ok(rendered) = &rendered {
        assert_eq!(*rendered, pieces);
    }
    assert!(template.required().all(|variable| template.uses(variable)));
    if template.is_body_alone() {
        assert!(template.covers_body());
        assert_eq!(rendered, Ok(body.to_vec()));
    }
    if template.covers_body() && rendered.is_ok() && !body.is_empty() {
        for bit in 0..8 {
            values.body = body.to_vec();
            let at = body.len() / 2;
            values.body[at] ^= 1 << bit;
            assert_ne!(template.render(&values), rendered, "`{text}` does not cover the body");
        }
    }
});
