//! What a generated export talks about: projects, models and their prices,
//! names of steps and tools, kinds of failure, tags, and the words of texts.
//! Constants only. Prices are of the usual size, not any provider's list.

/// A language model.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) provider: &'static str,
    /// The name that a client library gives to its runs.
    pub(super) client: &'static str,
    /// Pico-dollars for a prompt token and for a completion token; none for
    /// a model that is hosted by its user.
    pub(super) price: Option<(i64, i64)>,
    /// Median time to the first token, microseconds.
    pub(super) first_token_us: u64,
    /// Median time for each further token, microseconds.
    pub(super) token_us: u64,
}

/// A kind of project.
#[derive(Debug)]
pub(super) struct Persona {
    pub(super) name: &'static str,
    pub(super) description: Option<&'static str>,
    pub(super) root: &'static str,
    pub(super) trace_tier: Option<&'static str>,
}

pub(super) const PERSONAS: &[Persona] = &[
    Persona {
        name: "support-bot",
        description: Some("Answers customers' questions about orders and refunds"),
        root: "answer_customer",
        trace_tier: Some("longlived"),
    },
    Persona {
        name: "docs-search",
        description: Some("Questions about the product's documentation"),
        root: "search_docs",
        trace_tier: Some("shortlived"),
    },
    Persona {
        name: "sales-copilot",
        description: None,
        root: "draft_reply",
        trace_tier: None,
    },
    Persona {
        name: "code-review",
        description: Some("Comments on pull requests"),
        root: "review_change",
        trace_tier: Some("shortlived"),
    },
    Persona {
        name: "invoice-extraction",
        description: Some("Invoices in, structured rows out"),
        root: "extract_invoice",
        trace_tier: None,
    },
    Persona {
        name: "meeting-notes",
        description: None,
        root: "summarize_meeting",
        trace_tier: Some("longlived"),
    },
    Persona {
        name: "sql-analyst",
        description: Some("Turns questions into queries of the warehouse"),
        root: "answer_with_sql",
        trace_tier: None,
    },
    Persona {
        name: "travel-planner",
        description: None,
        root: "plan_trip",
        trace_tier: Some("shortlived"),
    },
];

pub(super) const MODELS: &[Model] = &[
    Model {
        name: "gpt-4o-mini",
        provider: "openai",
        client: "ChatOpenAI",
        price: Some((150_000, 600_000)),
        first_token_us: 380_000,
        token_us: 9_000,
    },
    Model {
        name: "claude-sonnet-4-5",
        provider: "anthropic",
        client: "ChatAnthropic",
        price: Some((3_000_000, 15_000_000)),
        first_token_us: 900_000,
        token_us: 15_000,
    },
    Model {
        name: "gpt-4.1",
        provider: "openai",
        client: "ChatOpenAI",
        price: Some((2_000_000, 8_000_000)),
        first_token_us: 550_000,
        token_us: 12_000,
    },
    Model {
        name: "gemini-2.5-flash",
        provider: "google_genai",
        client: "ChatGoogleGenerativeAI",
        price: Some((300_000, 2_500_000)),
        first_token_us: 420_000,
        token_us: 6_000,
    },
    Model {
        name: "llama-3.3-70b-instruct",
        provider: "vllm",
        client: "ChatVLLM",
        price: None,
        first_token_us: 250_000,
        token_us: 22_000,
    },
];

/// How often each of [`MODELS`] is called.
pub(super) const MODEL_WEIGHTS: &[u64] = &[45, 22, 15, 12, 6];

pub(super) const TOOLS: &[&str] = &[
    "search_orders",
    "run_sql",
    "fetch_page",
    "get_customer",
    "create_ticket",
    "calculator",
];

pub(super) const TEAMS: &[&str] = &[
    "checkout", "growth", "platform", "search", "success", "finance", "mobile",
];

/// Environments, with [`ENVIRONMENT_WEIGHTS`].
pub(super) const ENVIRONMENTS: &[&str] = &["production", "staging", "development"];

pub(super) const ENVIRONMENT_WEIGHTS: &[u64] = &[80, 14, 6];

/// A trace has any of these; at most eight.
pub(super) const TAGS: &[&str] = &["beta", "canary", "nightly", "vip", "web"];

/// The labels of the categorical feedback key `topic`.
pub(super) const TOPICS: &[&str] = &["billing", "bug", "delivery", "how-to", "other"];

/// A kind of failure: what comes before and after a number in its text.
pub(super) type Failure = (&'static str, &'static str);

/// Failures of calls to a model, the most frequent first.
pub(super) const LLM_FAILURES: &[Failure] = &[
    (
        "RateLimitError('Error code: 429 - too many requests, try again in ",
        " ms')",
    ),
    ("TimeoutError: no answer within ", " ms"),
    (
        "BadRequestError('Error code: 400 - the prompt exceeds the context by ",
        " tokens')",
    ),
];

/// Failures of tools, retrievers and other steps.
pub(super) const STEP_FAILURES: &[Failure] = &[
    (
        "ValidationError('1 validation error for Query: limit=",
        "')",
    ),
    ("TimeoutError: no answer within ", " ms"),
    ("ConnectionError('connection refused after ", " attempts')"),
];

pub(super) const FAILURE_WEIGHTS: &[u64] = &[55, 30, 15];

/// What texts are made of: words with spaces between them.
pub(super) const WORDS: &str = "\
    about above accept account action active address after again agent agree allow almost \
    always amount answer april archive area arrive article attach august author autumn backup \
    balance batch because before begin below better between billing blank block board border \
    branch bridge bright bring broken browser budget build button calendar cancel carrier \
    catalog center chair change channel charge check choose circle client cloud coast column \
    comment common company compare confirm connect contact content contract copper corner \
    correct country coupon cover create credit current customer daily damage date decide \
    default delay delete deliver depend deposit detail device differ digital direct discount \
    display document double download draft driver during early edge editor effect either email \
    employee empty enable engine enough enter entry equal error estimate evening event every \
    exact example except expect expire explain export extend factor family feature field \
    figure filter final find finish first follow forest format forward found fragile friday \
    friend from future garden gather general given glass global green ground group guest guide \
    handle harbor header hello history holiday hour however image import improve inch include \
    index inform inside install instead invoice island item journey july keep keyboard kitchen \
    label language large later latest learn leave ledger letter level license light limit \
    linen list little local locate machine manual march margin market matter measure meeting \
    member memory merge message method middle minute missing mobile model monday month morning \
    mountain move name near network never next night normal notice number object october offer \
    office often online open option orange order origin other outside owner package page paper \
    parcel partner password payment people period person phone picture place plan plate please \
    point policy portal postal prefer present price print problem process product profile \
    project promise protect provide public purchase quality quarter question quick quiet \
    railway random rather reach ready reason receipt record reduce refund region regular \
    release remain remove renew repair repeat replace report request result return review \
    right river round route sample saturday schedule school screen search season second \
    section secure select sender service settle share ship short should silver simple single \
    size small source south special spring stable start status stock store street strong \
    subject summer sunday supply support switch system table target team thank their there \
    through thursday ticket today together tomorrow track trade train travel tuesday twelve \
    under unit until update upload usage user usual valid value vendor version village visit \
    wait warehouse warranty water website week weight west where which while window winter \
    within without world write yellow yesterday zone";
