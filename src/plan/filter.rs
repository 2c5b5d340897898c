//! What a filter means → a condition on canonical columns.
//!
//! Comparisons of plain columns become the engine's own expressions; what looks into lists and JSON
//! becomes a [`matching`] function. Logic has two values, the engine's has three: a
//! condition without a value does not hold, which matters only below a negation.

use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, ident, lit};

use super::matching::{self, Matcher};
use super::split;
use crate::filter::{Condition, Entry, Family, Field, Filter, Number, Order, Subject, Test, Value};
use crate::request::Window;
use crate::runs::{Column, functions};
use crate::traces;

/// A filter as a condition on a run's columns.
#[derive(Clone, Debug)]
pub(crate) struct RunFilter {
    columns: Vec<Column>,
    of_root: Vec<Column>,
    condition: Expr,
    window: Window,
}

impl RunFilter {
    /// What filters ask of a run, all of them; `root.` means the run itself, which holds for roots. `None`
    /// where there are none.
    pub(crate) fn of_all<'f>(filters: impl IntoIterator<Item = &'f Filter>) -> Option<Self> {
        Self::lowered(filters, false)
    }

    /// The same, where the run need not be the root, whose columns stand beside its own.
    pub(crate) fn of_any_run(filter: &Filter) -> Option<Self> {
        Self::lowered([filter], true)
    }

    fn lowered<'f>(filters: impl IntoIterator<Item = &'f Filter>, apart: bool) -> Option<Self> {
        let conditions: Vec<Condition> = filters.into_iter().map(Filter::resolved).collect();
        let is_any = !conditions.is_empty();
        let condition = Condition::All(conditions);
        let mut lowering = Lowering {
            apart,
            ..Lowering::default()
        };
        let expr = lowering.condition(&condition);
        is_any.then(|| Self {
            columns: lowering.columns,
            of_root: lowering.of_root,
            condition: expr,
            window: window(&condition, apart),
        })
    }

    /// These columns and those that the filter reads.
    pub(crate) fn with_own(&self, columns: &[Column]) -> Vec<Column> {
        let own = self.columns.iter().filter(|own| !columns.contains(own));
        columns.iter().chain(own).copied().collect()
    }

    /// The columns of the root that it reads, where that stands apart.
    pub(crate) fn of_root(&self) -> &[Column] {
        &self.of_root
    }

    /// When the runs start that it keeps, as far as it says.
    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    /// The runs that it keeps, with all their columns.
    pub(crate) fn kept(&self, runs: LogicalPlan) -> Result<LogicalPlan> {
        LogicalPlanBuilder::new(runs)
            .filter(self.condition.clone())?
            .build()
    }

    /// The runs that it keeps, with these columns.
    pub(crate) fn keep(&self, runs: LogicalPlan, columns: &[Column]) -> Result<LogicalPlan> {
        LogicalPlanBuilder::new(self.kept(runs)?)
            .project(columns.iter().map(|column| ident(column.name())))?
            .build()
    }
}

/// The columns that tell which trace a run belongs to.
pub(crate) const TRACED: [Column; 3] = [Column::SessionId, Column::TraceId, Column::Id];

/// The runs whose trace is that of any of the others, with these columns of theirs. Both have the columns
/// of [`TRACED`].
pub(crate) fn of_same_traces(
    runs: LogicalPlan,
    others: LogicalPlan,
    columns: &[Column],
) -> Result<LogicalPlan> {
    const TRACE: &str = "@trace";
    const OTHER: &str = "@other trace";
    let own = columns.iter().map(|column| ident(column.name()));
    let runs = LogicalPlanBuilder::new(runs)
        .project(own.chain([trace_bits().alias(TRACE)]))?
        .build()?;
    let others = LogicalPlanBuilder::new(others)
        .project([trace_bits().alias(OTHER)])?
        .build()?;
    LogicalPlanBuilder::new(others)
        .join(runs, JoinType::RightSemi, (vec![OTHER], vec![TRACE]), None)?
        .project(columns.iter().map(|column| ident(column.name())))?
        .build()
}

/// The bits of the trace that a run belongs to, which must say which that is.
pub(super) fn trace_bits() -> Expr {
    let trace = functions::needed(traces::key(), Column::TraceId.name());
    functions::run_bits(ident(Column::SessionId.name()), trace)
}

/// Between which moments the runs start that a condition keeps, as far as it says so plainly.
fn window(condition: &Condition, apart: bool) -> Window {
    match condition {
        Condition::All(members) => members
            .iter()
            .map(|member| window(member, apart))
            .fold(Window::default(), |all, one| all.both(&one)),
        Condition::Field(
            Subject {
                field: Field::StartTime,
                of_root,
            },
            test,
        ) if !(apart && *of_root) => match test {
            Test::Equals(Value::Time(us)) => Window::between(Some(*us), us.checked_add(1)),
            Test::Compared(order, Value::Time(us)) => match order {
                Order::Greater | Order::GreaterOrEqual => Window::between(Some(*us), None),
                Order::Less => Window::between(None, Some(*us)),
                Order::LessOrEqual => Window::between(None, us.checked_add(1)),
            },
            _ => Window::default(),
        },
        _ => Window::default(),
    }
}

/// A condition on its way, and the columns that it reads.
#[derive(Default)]
struct Lowering {
    columns: Vec<Column>,
    /// Those of the root, where it stands apart from the run.
    of_root: Vec<Column>,
    apart: bool,
}

impl Lowering {
    fn column(&mut self, column: Column, of_root: bool) -> Expr {
        let (columns, name) = if of_root && self.apart {
            (&mut self.of_root, split::of_root(column))
        } else {
            (&mut self.columns, column.name().to_owned())
        };
        if !columns.contains(&column) {
            columns.push(column);
        }
        ident(name)
    }

    fn condition(&mut self, condition: &Condition) -> Expr {
        match condition {
            Condition::All(members) => self.several(members, Expr::and, true),
            Condition::Any(members) => self.several(members, Expr::or, false),
            Condition::Not(inner) => Expr::IsNotTrue(Box::new(self.condition(inner))),
            Condition::Field(subject, test) => self.field(*subject, test),
            Condition::Entry(entry) => self.entry(entry),
            Condition::Search(text) => {
                let columns = [Column::Name, Column::Error, Column::Inputs, Column::Outputs];
                let found = columns.map(|column| {
                    matching::matches(
                        self.column(column, false),
                        Matcher::Text(Test::Search(text.clone())),
                    )
                });
                found.into_iter().reduce(Expr::or).unwrap_or(lit(false))
            }
        }
    }

    fn several(
        &mut self,
        members: &[Condition],
        joined: fn(Expr, Expr) -> Expr,
        of_none: bool,
    ) -> Expr {
        match members {
            [] => lit(of_none),
            [only] => self.condition(only),
            // In halves: the engine walks down an expression's tree, which should not be deep.
            _ => {
                let (first, other) = members.split_at(members.len() / 2);
                let first = self.several(first, joined, of_none);
                joined(first, self.several(other, joined, of_none))
            }
        }
    }

    fn field(&mut self, subject: Subject, test: &Test) -> Expr {
        let Subject { field, of_root } = subject;
        let plain = |column: Column| (column, text as fn(Expr, &Test) -> Expr);
        let (column, compared): (Column, fn(Expr, &Test) -> Expr) = match field {
            Field::Id => (Column::Id, id),
            Field::TraceId => (Column::TraceId, id),
            Field::ParentRunId => (Column::ParentRunId, id),
            Field::SessionId => (Column::SessionId, id),
            Field::ReferenceExampleId => (Column::ReferenceExampleId, id),
            Field::Name => plain(Column::Name),
            Field::ThreadId => plain(Column::Thread),
            Field::RunType => plain(Column::RunType),
            Field::Status => plain(Column::Status),
            Field::StartTime => (Column::StartTime, time),
            Field::EndTime => (Column::EndTime, time),
            Field::TotalTokens => (Column::TotalTokens, number),
            Field::PromptTokens => (Column::PromptTokens, number),
            Field::CompletionTokens => (Column::CompletionTokens, number),
            Field::TotalCost => (Column::TotalCost, number),
            Field::PromptCost => (Column::PromptCost, number),
            Field::CompletionCost => (Column::CompletionCost, number),
            Field::Error if matches!(test, Test::Equals(Value::Boolean(_))) => {
                (Column::IsError, flag)
            }
            Field::Error => plain(Column::Error),
            Field::IsRoot | Field::ExecutionOrder => (Column::IsRoot, flag),
            Field::Latency => return number(self.elapsed(Column::EndTime, of_root), test),
            Field::FirstToken => {
                return number(self.elapsed(Column::FirstTokenTime, of_root), test);
            }
            Field::Tags => {
                return matching::matches(
                    self.column(Column::Tags, of_root),
                    Matcher::Tags(test.clone()),
                );
            }
            Field::Metadata => {
                let matcher = Matcher::Metadata(test.clone());
                return matching::matches(self.column(Column::Metadata, of_root), matcher);
            }
            // They come as entries.
            Field::MetadataKey
            | Field::MetadataValue
            | Field::FeedbackKey
            | Field::FeedbackScore
            | Field::FeedbackValue
            | Field::InputKey
            | Field::InputValue
            | Field::OutputKey
            | Field::OutputValue => return lit(false),
        };
        compared(self.column(column, of_root), test)
    }

    fn elapsed(&mut self, to: Column, of_root: bool) -> Expr {
        let start = self.column(Column::StartTime, of_root);
        functions::difference_us(start, self.column(to, of_root))
    }

    fn entry(&mut self, entry: &Entry) -> Expr {
        let column = match entry.family {
            Family::Metadata => Column::Metadata,
            Family::Feedback => Column::FeedbackStats,
            Family::Input => Column::Inputs,
            Family::Output => Column::Outputs,
        };
        let value = self.column(column, entry.of_root);
        matching::matches(value, Matcher::Entry(entry.clone()))
    }
}

/// A test of an id. An empty one is none.
fn id(value: Expr, test: &Test) -> Expr {
    match test {
        Test::Present => value.clone().is_not_null().and(value.not_eq(lit(""))),
        _ => text(value, test),
    }
}

fn text(value: Expr, test: &Test) -> Expr {
    let literal = |value: &Value| match value {
        Value::Text(one) => Some(lit(ScalarValue::Utf8View(Some(one.clone())))),
        _ => None,
    };
    match test {
        Test::Present => value.is_not_null(),
        Test::Equals(one) => literal(one).map_or(lit(false), |one| value.eq(one)),
        Test::OneOf(list) => value.in_list(list.iter().filter_map(literal).collect(), false),
        // What stands for itself here is an escape there.
        Test::Like(pattern) => value.like(lit(pattern.replace('\\', "\\\\"))),
        Test::Search(_) => matching::matches(value, Matcher::Text(test.clone())),
        // Within entries only.
        Test::Not(_) | Test::Compared(..) | Test::Contains(_) => lit(false),
    }
}

/// A test of whether something is so; where nothing says it, it is not.
fn flag(value: Expr, test: &Test) -> Expr {
    match test {
        Test::Equals(Value::Boolean(true)) => value,
        Test::Equals(Value::Boolean(false)) => Expr::IsNotTrue(Box::new(value)),
        _ => lit(false),
    }
}

fn time(value: Expr, test: &Test) -> Expr {
    let moment = |value: &Value| match value {
        Value::Time(us) => Some(lit(ScalarValue::TimestampMicrosecond(Some(*us), None))),
        _ => None,
    };
    match test {
        Test::Present => value.is_not_null(),
        Test::Equals(one) => moment(one).map_or(lit(false), |one| value.eq(one)),
        Test::OneOf(list) => value.in_list(list.iter().filter_map(moment).collect(), false),
        Test::Compared(order, one) => {
            moment(one).map_or(lit(false), |one| compared(value, *order, one))
        }
        _ => lit(false),
    }
}

fn compared(value: Expr, order: Order, with: Expr) -> Expr {
    match order {
        Order::Greater => value.gt(with),
        Order::GreaterOrEqual => value.gt_eq(with),
        Order::Less => value.lt(with),
        Order::LessOrEqual => value.lt_eq(with),
    }
}

/// A test of whole numbers: tokens, pico-dollars, microseconds.
fn number(value: Expr, test: &Test) -> Expr {
    let whole = |one: &Value| match one {
        Value::Cost(whole) | Value::Duration(whole) => Some(*whole),
        Value::Number(number) if number.is_whole() => i64::try_from(number.floor()).ok(),
        _ => None,
    };
    match test {
        Test::Present => value.is_not_null(),
        Test::Equals(one) => whole(one).map_or(lit(false), |one| value.eq(lit(one))),
        Test::OneOf(list) => value.in_list(list.iter().filter_map(whole).map(lit).collect(), false),
        Test::Compared(order, Value::Number(bound)) => beyond(value, *order, *bound),
        Test::Compared(order, one) => {
            whole(one).map_or(lit(false), |one| compared(value, *order, lit(one)))
        }
        _ => lit(false),
    }
}

/// Whole numbers against one that need not be whole, nor as small as they are.
fn beyond(value: Expr, order: Order, bound: Number) -> Expr {
    // The greatest whole number that is below the bound, or not above it.
    let is_above = matches!(order, Order::Greater | Order::GreaterOrEqual);
    let counts_itself = matches!(order, Order::GreaterOrEqual | Order::Less) && bound.is_whole();
    let edge = bound.floor() - i128::from(counts_itself);
    match i64::try_from(edge) {
        Ok(edge) if is_above => value.gt(lit(edge)),
        Ok(edge) => value.lt_eq(lit(edge)),
        // All of them, or none, are above an edge that is below, or above, all.
        Err(_) if is_above == (edge < 0) => value.is_not_null(),
        Err(_) => lit(false),
    }
}
