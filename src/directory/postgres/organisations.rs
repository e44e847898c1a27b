//! What a row says of an organisation itself.

use crate::model::tables::Segment;
use crate::model::url::BaseUrl;

/// The segment with this name.
pub(super) fn segment_of(name: &str) -> Result<Segment, String> {
    match name {
        "internal" => Ok(Segment::Internal),
        "preview" => Ok(Segment::Preview),
        "stable" => Ok(Segment::Stable),
        other => Err(format!("the segment {other:?} is not known")),
    }
}

/// An organisation's own front ends. With one that cannot be read, the list would mean another thing.
pub(super) fn frontends(
    read: Result<Option<Vec<&str>>, tokio_postgres::Error>,
) -> Result<Option<Vec<BaseUrl>>, String> {
    let origins = read.map_err(|error| format!("its frontend_origins: {error}"))?;
    let parse = |text: &str| BaseUrl::parse(text).map_err(|error| format!("its frontend_origins: {error}"));
    origins.map(|origins| origins.into_iter().map(parse).collect()).transpose()
}
