//! Schemas from a registry that speaks Confluent's API, kept once they have come: a schema of an id
//! never changes.
//!
//! Format: "Schema Registry API Reference", `GET /schemas/ids/{id}` and `GET /subjects/…/versions/…`.

use super::access::KafkaAccess;
use crate::decode::kafka::avro_schema::AvroSchema;
use crate::decode::kafka::framing::SchemaRef;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::{interrupt, threads};
use crate::source::options::value_of;
use crate::source::postgres::quote::quote_ident;
use serde::Deserialize;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

/// Bytes of an answer at the most.
const LARGEST: u64 = 16 << 20;
/// Schemas that one schema may refer to, directly or by others.
const MOST_REFERENCES: usize = 256;

/// A registry and the schemas that came from it.
pub struct Registry {
    server: String,
    url: String,
    login: Option<String>,
    secrets: KafkaAccess,
    agent: ureq::Agent,
    schemas: HashMap<SchemaRef, AvroSchema>,
}

#[derive(Deserialize)]
struct Answer {
    schema: String,
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: i32,
}

impl Registry {
    /// The registry of a server; none where it names none.
    pub fn of(access: &KafkaAccess, timeout: Duration) -> Option<Self> {
        let url = value_of(&access.server.options, "schema.registry.url")?;
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .tls_config(
                ureq::tls::TlsConfig::builder().provider(ureq::tls::TlsProvider::NativeTls).build(),
            )
            .build();
        Some(Self {
            server: access.server.name.clone(),
            url: url.trim_end_matches('/').to_owned(),
            login: access.registry_login(),
            secrets: access.clone(),
            agent: config.into(),
            schemas: HashMap::new(),
        })
    }

    /// Its address, which holds no secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the registry answers.
    pub fn check(&self) -> Result<()> {
        self.get("/subjects").map(drop)
    }

    /// The schema of that id.
    pub fn schema(&mut self, id: SchemaRef) -> Result<&AvroSchema> {
        let fetched = match self.schemas.contains_key(&id) {
            true => None,
            false => Some(self.fetch(id)?),
        };
        match (self.schemas.entry(id), fetched) {
            (Entry::Occupied(known), _) => Ok(known.into_mut()),
            (Entry::Vacant(free), Some(schema)) => Ok(free.insert(schema)),
            (Entry::Vacant(_), None) => {
                Err(OdsError::new(ErrorKind::Bug, "a schema is gone that was there"))
            }
        }
    }

    /// The schema of that id, if it has come before.
    pub fn known(&self, id: SchemaRef) -> Option<&AvroSchema> {
        self.schemas.get(&id)
    }

    fn fetch(&self, id: SchemaRef) -> Result<AvroSchema> {
        let path = match id {
            SchemaRef::Id(id) => format!("/schemas/ids/{id}"),
            SchemaRef::Guid(guid) => format!("/schemas/guids/{}", guid_text(guid)),
            // Apicurio's Confluent API takes its own ids in the place of Confluent's.
            SchemaRef::GlobalId(id) | SchemaRef::ContentId(id) => format!("/schemas/ids/{id}"),
        };
        self.parsed(&path, self.answer(&path)?)
    }

    /// The latest schema of a subject; none where there is no such subject.
    pub fn latest(&self, subject: &str) -> Result<Option<AvroSchema>> {
        let path = format!("/subjects/{}/versions/latest", percent_encoded(subject));
        match self.answer(&path) {
            Ok(answer) => self.parsed(&path, answer).map(Some),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parsed(&self, path: &str, answer: Answer) -> Result<AvroSchema> {
        if answer.kind.as_deref().is_some_and(|kind| kind != "AVRO") {
            let kind = answer.kind.unwrap_or_default();
            return Err(self.error(ErrorKind::Unsupported, &format!("{path} is {kind}, not Avro")));
        }
        let mut texts = Vec::new();
        let mut asked = Vec::new();
        self.references(&answer.references, &mut texts, &mut asked)?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        AvroSchema::parse(&answer.schema, &texts).map_err(|wrong| {
            self.error(ErrorKind::Protocol, &format!("{path}: expected {}", wrong.0))
        })
    }

    /// The texts of what a schema refers to, each behind those it refers to itself.
    fn references(
        &self,
        references: &[Reference],
        texts: &mut Vec<String>,
        asked: &mut Vec<String>,
    ) -> Result<()> {
        for Reference { subject, version } in references {
            let path = format!("/subjects/{}/versions/{version}", percent_encoded(subject));
            if asked.contains(&path) {
                continue;
            }
            if asked.len() >= MOST_REFERENCES {
                let what = format!("a schema refers to more than {MOST_REFERENCES} others");
                return Err(self.error(ErrorKind::Unsupported, &what));
            }
            asked.push(path.clone());
            let answer = self.answer(&path)?;
            self.references(&answer.references, texts, asked)?;
            texts.push(answer.schema);
        }
        Ok(())
    }

    fn answer(&self, path: &str) -> Result<Answer> {
        serde_json::from_str(&self.get(path)?).map_err(|_| {
            self.error(ErrorKind::Protocol, &format!("{path} is no answer of a schema registry"))
        })
    }

    fn get(&self, path: &str) -> Result<String> {
        interrupt::check();
        let mut request = self
            .agent
            .get(format!("{}{path}", self.url))
            .header("Accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(login) = &self.login {
            request = request.header("Authorization", login);
        }
        // A name is looked up in a thread of its own.
        let answered = threads::without_signals(|| {
            let mut answer = request.call()?;
            let status = answer.status().as_u16();
            let body = answer.body_mut().with_config().limit(LARGEST).read_to_string()?;
            Ok::<_, ureq::Error>((status, body))
        });
        match answered {
            Ok((200, body)) => Ok(body),
            Ok((status @ (401 | 403), _)) => Err(self
                .error(ErrorKind::SourceRefused, &format!("{path} is refused (HTTP {status})"))
                .hint(format!(
                    "ALTER USER MAPPING FOR … SERVER {} OPTIONS (ADD \"schema.registry.user\" '…', ADD \"schema.registry.password\" '…');",
                    quote_ident(&self.server)
                ))),
            Ok((404, _)) => {
                Err(self.error(ErrorKind::NotFound, &format!("{path} is not there (HTTP 404)")))
            }
            Ok((status, _)) => Err(self
                .error(ErrorKind::SourceUnreachable, &format!("{path} answers HTTP {status}"))),
            Err(error) => Err(self.error(ErrorKind::SourceUnreachable, &error.to_string())),
        }
    }

    fn error(&self, kind: ErrorKind, what: &str) -> OdsError {
        let what = self.secrets.without_secrets(what);
        OdsError::new(kind, format!("schema registry of server \"{}\": {what}", self.server))
    }
}

fn guid_text(guid: [u8; 16]) -> String {
    let hex: String = guid.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_and_guids_stand_in_paths() {
        assert_eq!(percent_encoded("a b/c-value.é"), "a%20b%2Fc-value.%C3%A9");
        let guid = std::array::from_fn(|place| place as u8 * 17);
        assert_eq!(guid_text(guid), "00112233-4455-6677-8899-aabbccddeeff");
    }
}
