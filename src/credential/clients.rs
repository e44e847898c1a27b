//! OAuth client credentials (RFC 6749 4.4), as Databricks, Microsoft Entra and all others want them.

use super::endpoint::{Form, basic, encoded_basic};
use super::mint::Call;
use crate::model::principal::{Account, ClientAuth, Entra, OAuth2};
use crate::model::url::{BaseUrl, Endpoint, InvalidUrl};
use crate::secret::Secret;

const GRANT: (&str, Option<&str>) = ("grant_type", Some("client_credentials"));
/// What covers the REST API, SQL and apps of Databricks.
pub(super) const ALL_APIS: &str = "all-apis";

/// The token endpoint of a Databricks workspace.
pub(super) fn of_workspace(workspace: &BaseUrl) -> Result<Endpoint, InvalidUrl> {
    workspace.at("/oidc/v1/token")
}

/// Databricks: at the workspace, or at its account; id and secret as they are, for both are plain.
pub(super) fn databricks(
    workspace: &BaseUrl,
    account: Option<&Account>,
    client_id: &str,
    client_secret: &Secret,
) -> Result<Call, InvalidUrl> {
    let endpoint = match account {
        Some(Account { id, url }) => url.at(&format!("/oidc/accounts/{id}/v1/token"))?,
        None => of_workspace(workspace)?,
    };
    let form = Form::new([GRANT, ("scope", Some(ALL_APIS))]);
    Ok(Call { endpoint, authorization: Some(basic(client_id, client_secret)), form })
}

/// Whoever keeps to the standard.
pub(super) fn oauth2(oauth2: &OAuth2) -> Call {
    let OAuth2 { token_url, client_id, client_secret, auth, scope, params } = oauth2;
    let in_form = |text| Some(text).filter(|_| *auth == ClientAuth::Body);
    let own = [
        GRANT,
        ("client_id", in_form(client_id.as_str())),
        ("client_secret", in_form(client_secret.expose())),
        ("scope", scope.as_deref()),
    ];
    let more = params.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
    Call {
        endpoint: token_url.clone(),
        authorization: (*auth == ClientAuth::Basic).then(|| encoded_basic(client_id, client_secret)),
        form: Form::new(own.into_iter().chain(more)),
    }
}

/// Microsoft Entra, which takes id and secret in the form.
pub(super) fn entra(entra: &Entra) -> Result<Call, InvalidUrl> {
    let Entra { authority, tenant, client_id, client_secret, scope } = entra;
    let form = Form::new([
        GRANT,
        ("client_id", Some(client_id)),
        ("client_secret", Some(client_secret.expose())),
        ("scope", Some(scope)),
    ]);
    Ok(Call { endpoint: authority.at(&format!("/{tenant}/oauth2/v2.0/token"))?, authorization: None, form })
}
