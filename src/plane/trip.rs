//! Where a request goes and with what.

use super::account::{Account, Lease};
use super::cookie::Renewal;
use super::databricks::Wishes;
use super::decide::Plan;
use super::guard::Guard;
use super::outside::Outside;
use super::pool::To;
use super::worker::Worker;
use crate::config::Circuit;
use crate::live::node::Closed;
use crate::live::token::Token;
use crate::metrics::CircuitLimit;
use crate::model::engine::{Engine, Manner};
use crate::model::policy::{HostSeen, Policy, Protocol};
use crate::model::principal::{ClientCertificate, PrincipalKind, SigV4};
use crate::model::reject::{Class, Reject};
use crate::model::upstream::{Cluster, Node, ServicePrincipal};
use crate::model::url::Scheme;
use crate::net::dial::Speech;
use crate::secret::Secret;
use crate::session::carrier::Via;
use crate::wire::request::Head;
use crate::wire::response;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// Where a request goes and with what.
pub(super) struct Trip {
    pub(super) node: Arc<Node>,
    /// The cluster that the node was chosen from, where there are clusters.
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) credential: Credential,
    /// How much of the target holds the session.
    pub(super) link: usize,
    /// How much of what follows leads to the app.
    pub(super) prefix: usize,
    pub(super) policy: Policy,
    /// The engine, if it is one.
    pub(super) engine: Option<Arc<Engine>>,
    /// Whose pages may show the answer and have asked for it.
    pub(super) guard: Guard,
    pub(super) drop_authorization: bool,
    /// What the answer does to the session's cookie.
    pub(super) renewal: Option<Renewal>,
    /// Whether a 404 means that another upstream is to be asked.
    pub(super) may_be_elsewhere: bool,
    /// Whether whoever sends the request has its body and can send it again.
    pub(super) is_held: bool,
    /// What is wanted of a statement's answer.
    pub(super) wishes: Wishes,
}

/// Why a node takes no request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shut {
    /// A limit is reached.
    Full(CircuitLimit),
    /// It was taken out of use, and another request tries it.
    OnTrial,
}

impl Shut {
    /// The limit that is reached. A node on trial takes one request.
    pub(super) fn limit(self) -> CircuitLimit {
        match self {
            Self::Full(limit) => limit,
            Self::OnTrial => CircuitLimit::NodeRequests,
        }
    }
}

/// As whom it goes.
pub(super) enum Credential {
    /// A principal's, with its token unless it is anonymous.
    Principal(Arc<ServicePrincipal>, Option<Arc<Token>>),
    /// What a v1 URL held. Such connections are not pooled: nothing says whose they are.
    Firefly(Token),
}

impl Trip {
    /// The way of a decided request.
    pub(super) fn planned(plan: Plan, prefix: usize, via: Via<'_>, guard: Guard) -> Self {
        Self {
            node: plan.node,
            cluster: plan.cluster,
            // To an engine everybody is the principal.
            drop_authorization: via == Via::Bearer
                || plan.engine.is_some()
                || plan.token.as_ref().is_some_and(|token| token.replaces_authorization()),
            credential: Credential::Principal(plan.principal, plan.token),
            link: 0,
            prefix,
            policy: plan.policy,
            engine: plan.engine,
            guard,
            renewal: None,
            may_be_elsewhere: false,
            is_held: false,
            wishes: Wishes::default(),
        }
    }

    /// The way of a v1 request.
    pub(super) fn firefly(node: Arc<Node>, authorization: &Secret, prefix: usize, guard: Guard) -> Self {
        Self {
            node,
            cluster: None,
            credential: Credential::Firefly(Token::authorization(authorization, &[])),
            link: 0,
            prefix,
            policy: Policy::default(),
            engine: None,
            guard,
            drop_authorization: true,
            renewal: None,
            may_be_elsewhere: false,
            is_held: false,
            wishes: Wishes::default(),
        }
    }

    /// Takes the request's places on its node and upstream; on its cluster it has one since it was decided on. `forced`
    /// takes one on a node whose trial goes on.
    ///
    /// # Errors
    /// [`Shut`] where there is none.
    pub(super) fn enter(&self, circuit: &Circuit, forced: bool, lease: &mut Lease) -> Result<(), Shut> {
        (lease.node, lease.request) = (None, None);
        let Some(cluster) = &self.cluster else {
            lease.node = Some(self.node.live.lease());
            return Ok(());
        };
        if circuit.max_requests > 0 {
            let place = cluster.upstream.requests.take(circuit.max_requests);
            lease.request = Some(place.ok_or(Shut::Full(CircuitLimit::Requests))?);
        }
        let node = self.node.live.enter(Instant::now, circuit.max_requests_per_node, forced);
        lease.node = Some(node.map_err(|closed| match closed {
            Closed::Full => Shut::Full(CircuitLimit::NodeRequests),
            Closed::OnTrial => Shut::OnTrial,
        })?);
        Ok(())
    }

    pub(super) fn token(&self) -> Option<&Token> {
        match &self.credential {
            Credential::Principal(_, token) => token.as_deref(),
            Credential::Firefly(token) => Some(token),
        }
    }

    /// The same if it has names of its own, which trailers must not have.
    pub(super) fn naming_token(&self) -> Option<Arc<Token>> {
        let Credential::Principal(_, token) = &self.credential else { return None };
        token.as_ref().filter(|token| token.has_names()).map(Arc::clone)
    }

    /// Where the app is, from outside.
    pub(super) fn outside<'a>(&'a self, head: &Head<'a>) -> Outside<'a> {
        Outside {
            node: Some(&self.node.url),
            host: if self.policy.host == HostSeen::Outside { head.authority } else { "" },
            link: &head.target[..self.link],
            prefix: &head.target[self.link..][..self.prefix],
            base: self.manner().map_or("", |manner| &manner.base),
            is_told: !self.policy.strip_prefix,
            is_framed: self.guard.cookies_in_frames(head.authority),
        }
    }

    /// What is said to an engine, and how.
    pub(super) fn manner(&self) -> Option<&Manner> {
        self.engine.as_deref().map(|engine| &engine.manner)
    }

    /// Whether pages of the app get a base: it wants so, and is not at the root of its host.
    pub(super) fn changes_pages(&self) -> bool {
        self.policy.base_tag && self.link + self.prefix > 0
    }

    /// Where the app begins, from outside.
    pub(super) fn base(&self, head: &Head<'_>) -> String {
        format!("{}/", &head.target[..self.link + self.prefix])
    }

    /// How long the app may be silent.
    pub(super) fn pace(&self, worker: &Worker) -> Pace {
        let settings = &worker.plane.settings;
        // While an engine works on a query, its answer has not begun.
        let working = self.policy.idle_timeout.filter(|_| self.engine.is_some());
        Pace {
            first_byte_timeout: working.unwrap_or(settings.first_byte_timeout),
            idle_timeout: self.policy.idle_timeout.unwrap_or(settings.idle_timeout),
            ping_interval: self.policy.ping_interval.unwrap_or(settings.ping_interval),
        }
    }

    /// What may be spoken with the node.
    pub(super) fn speech(&self, worker: &Worker) -> Speech {
        match self.policy.protocol {
            Protocol::Http2 => Speech::Http2,
            Protocol::Auto if self.is_pooled() && worker.pool.may_offer_http2(self.to()) => Speech::Either,
            Protocol::Auto | Protocol::Http1 => Speech::Http1,
        }
    }

    /// The principal's certificate, which is shown in handshakes.
    fn certificate(&self) -> Option<(&ServicePrincipal, &ClientCertificate)> {
        let Credential::Principal(principal, _) = &self.credential else { return None };
        principal.extras.certificate.as_ref().map(|certificate| (&**principal, certificate))
    }

    /// What its requests are signed with.
    pub(super) fn signer(&self) -> Option<&SigV4> {
        let Credential::Principal(principal, _) = &self.credential else { return None };
        if let PrincipalKind::SigV4(keys) = &principal.kind { Some(keys) } else { None }
    }

    /// What tells connections apart.
    pub(super) fn to(&self) -> To<'_> {
        To { node: &self.node, identity: self.certificate().map_or(0, |(principal, _)| principal.token.uid()) }
    }

    /// How handshakes are made, where it is not the gateway's own way.
    pub(super) fn handshake(&self, worker: &Worker) -> Result<Option<TlsConnector>, Reject> {
        let Some((principal, certificate)) = self.certificate() else { return Ok(None) };
        if self.node.url.scheme() == Scheme::Http {
            let cause = "the principal has a certificate to show, and the upstream's address is plain http";
            return Err(Reject::new(Class::BadDestination, cause));
        }
        let ClientCertificate { chain, key } = certificate;
        let tls = worker.plane.dialer.tls();
        let made = principal.token.tls(&tls.roots(), || tls.showing(chain, key.expose()));
        made.map(Some).map_err(|error| Reject::new(Class::Internal, format!("the principal's client_key {error}")))
    }

    pub(super) fn is_pooled(&self) -> bool {
        matches!(self.credential, Credential::Principal(..))
    }

    /// The session's cookie for this answer, when it is to be renewed.
    pub(super) fn cookie(&self, worker: &Worker, account: &Account, answer: &response::Head<'_>) -> Option<String> {
        self.renewal.as_ref()?.cookie(worker, account.session.as_ref()?, answer)
    }
}

/// How long an upstream may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Before an answer begins.
    pub(super) first_byte_timeout: Duration,
    /// An answer or a tunnel, before it is cut.
    pub(super) idle_timeout: Duration,
    /// A WebSocket, before its client is pinged; zero for never.
    pub(super) ping_interval: Duration,
}
