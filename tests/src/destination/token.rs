//! Token endpoints of the destination (RFC 6749): client credentials, and refresh tokens that work once.

use std::collections::HashMap;

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A token endpoint: its settings, and what it has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The only client that it knows.
    pub client_id: String,
    /// That client's secret.
    pub client_secret: String,
    /// For how long its tokens are valid, in seconds. It only says so.
    pub expires_in: u64,
    /// The refresh token that works; each exchange replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Stands in its tokens, so that those of one that was made anew are others.
    #[serde(default)]
    pub mark: String,
    /// Tokens that it has granted, oldest first.
    #[serde(default)]
    pub granted: Vec<String>,
    /// How often it has refused.
    #[serde(default)]
    pub refused: u64,
}

impl Endpoint {
    /// A token, or an error of the protocol.
    pub(super) fn answer(&mut self, name: &str, headers: &HeaderMap, body: &[u8]) -> Response {
        let form: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        match self.grant(name, headers, &form) {
            Ok(answer) => answer,
            Err((status, error)) => {
                self.refused += 1;
                (status, Json(json!({"error": error, "error_description": "made up"}))).into_response()
            }
        }
    }

    fn grant(
        &mut self,
        name: &str,
        headers: &HeaderMap,
        form: &HashMap<String, String>,
    ) -> Result<Response, (StatusCode, &'static str)> {
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let (id, secret) = basic(headers).unwrap_or_else(|| (field("client_id"), field("client_secret")));
        if (id, secret) != (self.client_id.clone(), self.client_secret.clone()) {
            return Err((StatusCode::UNAUTHORIZED, "invalid_client"));
        }
        match (field("grant_type").as_str(), &self.refresh_token) {
            ("client_credentials", _) => {}
            ("refresh_token", Some(good)) if field("refresh_token") == *good => {
                self.refresh_token = Some(format!("refresh-{name}-{}{}", self.mark, self.granted.len() + 1));
            }
            ("refresh_token", _) => return Err((StatusCode::BAD_REQUEST, "invalid_grant")),
            _ => return Err((StatusCode::BAD_REQUEST, "unsupported_grant_type")),
        }
        let token = format!("access-{name}-{}{}", self.mark, self.granted.len() + 1);
        self.granted.push(token.clone());
        let mut answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": self.expires_in});
        if field("grant_type") == "refresh_token" {
            answer["refresh_token"] = json!(self.refresh_token);
        }
        Ok(Json(answer).into_response())
    }
}

/// The client in `Authorization: Basic`, each part form-encoded.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = headers.get("authorization")?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |text: &str| form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned());
    Some((decode(id)?, decode(secret)?))
}
