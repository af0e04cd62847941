//! The fields of a `multipart/form-data` body (RFC 7578), found in one pass without copying them.

use std::borrow::Cow;

use memchr::memmem;

/// Most parts of one body that are looked at.
pub(super) const PARTS_MAX: usize = 1000;
/// Longest boundary, in bytes (RFC 2046, section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

/// The boundary that a content type names, if it is one of a multipart form.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let mut parameters = content_type.split(';').map(str::trim);
    let is_form = parameters.next()?.eq_ignore_ascii_case("multipart/form-data");
    let boundary = parameters.find_map(|parameter| named(parameter, "boundary"))?;
    (is_form && (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())).then(|| boundary.into_owned())
}

/// Names and values of the parts, in their order. What is not well-formed ends them.
pub(super) fn fields<'b>(body: &'b [u8], boundary: &str) -> impl Iterator<Item = (String, &'b [u8])> {
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut rest = match body.starts_with(&delimiter[2..]) {
        true => body.get(delimiter.len() - 2..),
        // What stands before the first part is nobody's.
        false => memmem::find(body, &delimiter).and_then(|at| body.get(at + delimiter.len()..)),
    };
    let parts = std::iter::from_fn(move || {
        let part = rest.take()?.strip_prefix(b"\r\n")?;
        let end = memmem::find(part, &delimiter)?;
        rest = part.get(end + delimiter.len()..);
        part.get(..end)
    });
    parts.take(PARTS_MAX).filter_map(|part| {
        let head_end = memmem::find(part, b"\r\n\r\n")?;
        Some((field_name(&part[..head_end])?, &part[head_end + 4..]))
    })
}

fn field_name(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    disposition.split(';').map(str::trim).find_map(|parameter| named(parameter, "name")).map(Cow::into_owned)
}

/// The value of a parameter of that name, its quotes taken off.
fn named<'p>(parameter: &'p str, name: &str) -> Option<Cow<'p, str>> {
    let (found, value) = parameter.split_once('=')?;
    if !found.trim().eq_ignore_ascii_case(name) {
        return None;
    }
    let value = value.trim();
    Some(match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        // Browsers write a quote in a name as %22 (the HTML standard, multipart form data).
        Some(quoted) => Cow::Owned(quoted.replace("%22", "\"").replace("\\\"", "\"")),
        None => Cow::Borrowed(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(body: &[u8]) -> Vec<(String, Vec<u8>)> {
        fields(body, "x-y").map(|(name, value)| (name, value.to_vec())).collect()
    }

    #[test]
    fn a_boundary_is_read_as_senders_write_it() {
        assert_eq!(boundary("multipart/form-data; boundary=x-y").as_deref(), Some("x-y"));
        assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"x y\"").as_deref(), Some("x y"));
        for none in ["multipart/mixed; boundary=x", "multipart/form-data", "multipart/form-data; boundary=", "text/plain"] {
            assert_eq!(boundary(none), None, "{none}");
        }
        let of = |length: usize| boundary(&format!("multipart/form-data; boundary={}", "b".repeat(length)));
        assert!(of(BOUNDARY_BYTES_MAX).is_some() && of(BOUNDARY_BYTES_MAX + 1).is_none());
    }

    #[test]
    fn parts_have_names_and_exact_bytes() {
        let part = |name: &str, value: &str| {
            format!("--x-y\r\nContent-Disposition: form-data; name=\"{name}\"\r\nContent-Type: text/plain\r\n\r\n{value}\r\n")
        };
        let body = format!("before\r\n{}{}--x-y--\r\n", part("a", "1\r\n--x\n"), part("b", ""));
        assert_eq!(names(body.as_bytes()), [("a".to_owned(), b"1\r\n--x\n".to_vec()), ("b".to_owned(), Vec::new())]);
        for cut in 0..body.len() {
            names(&body.as_bytes()[..cut]);
        }
        assert_eq!(names(b"--x-y\r\nno head"), []);
    }

    #[test]
    fn parts_are_looked_at_up_to_their_bound() {
        let body = "--x-y\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n".repeat(PARTS_MAX + 1) + "--x-y--";
        assert_eq!(names(body.as_bytes()).len(), PARTS_MAX);
    }
}
