//! What it costs to know what a statement does: found in the cache, not found there, and scanned only.
//!
//! Almost every statement of an application is a hit, and most hits differ from the text before them in their
//! literals; misses are what a client pays that makes up a new shape each time. Each figure is of one statement, and
//! the names say how many bytes its text has.

mod sample;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use howdah::sql::Class;
use howdah::sql::catalog::Catalog;
use howdah::sql::classify::Classifier;
use howdah::sql::scan::Scanner;

/// Short enough to be run often; what is measured takes microseconds at most, so there are samples enough.
fn brief() -> Criterion {
    let times = Criterion::default().warm_up_time(Duration::from_millis(300));
    times.measurement_time(Duration::from_secs(1)).sample_size(50).without_plots()
}

/// A statement that can be written with any literal, and with any name for one of its columns: empty, or ` AS name`.
struct Shape {
    name: &'static str,
    write: fn(literal: usize, alias: &str) -> String,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "select_1", write: |literal, alias| format!("SELECT {literal}{alias}") },
    Shape {
        name: "pgbench_select",
        write: |literal, alias| format!("SELECT abalance{alias} FROM pgbench_accounts WHERE aid = {literal};"),
    },
    Shape { name: "orm", write: orm },
];

/// The tables and columns that an ORM names one by one.
const COLUMNS: [(&str, &[&str]); 3] = [
    (
        "shop_order",
        &[
            "id",
            "created_at",
            "updated_at",
            "status",
            "number",
            "currency",
            "total_net",
            "note",
            "shipped_at",
            "customer_id",
        ],
    ),
    (
        "shop_customer",
        &["id", "email", "first_name", "last_name", "date_joined", "is_active", "phone_number", "language"],
    ),
    ("shop_address", &["id", "street", "postal_code", "city", "state", "country_code"]),
];

/// A list page as an ORM asks for it, in the manner of Django: every column by its full name, twice.
fn orm(literal: usize, alias: &str) -> String {
    let of_table = |(table, names): &(&str, &[&str])| {
        let full: Vec<String> = names.iter().map(|name| format!("\"{table}\".\"{name}\"")).collect();
        full.join(", ")
    };
    let columns = COLUMNS.iter().map(of_table).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT {columns}, COUNT(\"shop_orderline\".\"id\"){alias} FROM \"shop_order\" \
         INNER JOIN \"shop_customer\" ON (\"shop_order\".\"customer_id\" = \"shop_customer\".\"id\") \
         LEFT OUTER JOIN \"shop_address\" ON (\"shop_customer\".\"id\" = \"shop_address\".\"customer_id\") \
         LEFT OUTER JOIN \"shop_orderline\" ON (\"shop_order\".\"id\" = \"shop_orderline\".\"order_id\") \
         WHERE (\"shop_order\".\"status\" IN ('paid', 'packed', 'sent', 'returned') \
         AND \"shop_order\".\"created_at\" >= '2025-03-01T00:00:00+00:00'::timestamptz \
         AND \"shop_customer\".\"is_active\" AND \"shop_customer\".\"id\" > {literal} \
         AND UPPER(\"shop_customer\".\"last_name\"::text) LIKE UPPER('o''neil%') \
         AND NOT EXISTS(SELECT 1 AS \"a\" FROM \"shop_refund\" U0 \
         WHERE (U0.\"order_id\" = (\"shop_order\".\"id\") AND U0.\"accepted\" = true) LIMIT 1)) \
         GROUP BY {columns} ORDER BY \"shop_order\".\"created_at\" DESC, \"shop_order\".\"id\" ASC LIMIT 25"
    )
}

/// How many texts of one shape take turns.
const TURNS: usize = 64;

/// The first of the literals, all of which have six digits so that all texts of a shape are of one length.
const FIRST: usize = 100_000;

impl Shape {
    fn text(&self) -> String {
        (self.write)(FIRST, "")
    }

    /// What it says, and how long the text is.
    fn id(&self, what: &str, text: &str) -> BenchmarkId {
        BenchmarkId::new(what, format!("{}_{}B", self.name, text.len()))
    }
}

/// A read goes through the whole parser and the whole catalog; a text taken for a write may not have.
fn expect_read(classifier: &Classifier, catalog: &Catalog, text: &str) {
    assert_eq!(classifier.analyse(text.as_bytes(), catalog).class(), Class::Read, "{text}");
}

fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    for shape in &SHAPES {
        let text = shape.text();
        let tokens = Scanner::new(text.as_bytes()).count() as u64;
        group.throughput(Throughput::ElementsAndBytes { elements: tokens, bytes: text.len() as u64 });
        group.bench_function(shape.id("tokens", &text), |bencher| {
            bencher.iter(|| {
                for token in Scanner::new(black_box(text.as_bytes())) {
                    black_box(token);
                }
            });
        });
    }
    group.finish();
}

fn hit(criterion: &mut Criterion) {
    let catalog = sample::catalog();
    let mut group = criterion.benchmark_group("classify");
    group.throughput(Throughput::Elements(1));
    for shape in &SHAPES {
        let classifier = Classifier::default();
        let text = shape.text();
        expect_read(&classifier, &catalog, &text);
        group.bench_function(shape.id("hit_same_text", &text), |bencher| {
            bencher.iter(|| classifier.analyse(black_box(text.as_bytes()), &catalog));
        });
        let texts: Vec<String> = (0..TURNS).map(|turn| (shape.write)(FIRST + turn, "")).collect();
        let fingerprint = |text: &str| classifier.analyse(text.as_bytes(), &catalog).fingerprint;
        assert!(texts.iter().all(|other| fingerprint(other) == fingerprint(&text)), "one shape");
        let mut turn = 0;
        group.bench_function(shape.id("hit_other_literals", &text), |bencher| {
            bencher.iter(|| {
                turn = (turn + 1) % TURNS;
                classifier.analyse(black_box(texts[turn].as_bytes()), &catalog)
            });
        });
    }
    group.finish();
}

fn miss(criterion: &mut Criterion) {
    let catalog = sample::catalog();
    let mut group = criterion.benchmark_group("classify");
    group.throughput(Throughput::Elements(1));
    for shape in &SHAPES {
        // Soon full, so that each text pushes out another, as it would where shapes never repeat.
        let classifier = Classifier::default();
        let mut unseen = (FIRST..).map(|number| (shape.write)(FIRST, &format!(" AS n{number}")));
        let text = unseen.next().unwrap_or_default();
        expect_read(&classifier, &catalog, &text);
        group.bench_function(shape.id("miss", &text), |bencher| {
            bencher.iter_batched(
                || unseen.next().unwrap_or_default(),
                |text| {
                    let analysis = classifier.analyse(text.as_bytes(), &catalog);
                    // Handed back, so that the text is dropped when the clock is stopped.
                    (analysis, text)
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = brief(); targets = scan, hit, miss }
criterion_main!(benches);
