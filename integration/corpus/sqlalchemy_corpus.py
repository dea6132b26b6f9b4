"""What SQLAlchemy says: its own tests for dialects (sqlalchemy.testing.suite), and what applications ask through its mapper.

Connects where PGHOST and PGPORT lead, and knows nothing of who listens.
"""

import datetime
import os
import pathlib
import subprocess
import sys
import tempfile
from decimal import Decimal

from sqlalchemy import (
    JSON, Date, DateTime, ForeignKey, Numeric, String, Text, and_, bindparam, case, cast, create_engine, delete, desc, exists,
    extract, func, inspect, insert, literal, not_, or_, select, text, true, tuple_, union, union_all, update, values,
    column, Integer,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, aggregate_order_by, array, array_agg, insert as upsert
from sqlalchemy.engine import URL
from sqlalchemy.orm import (
    DeclarativeBase, Mapped, Session, aliased, column_property, contains_eager, joinedload, mapped_column, relationship,
    selectinload, subqueryload, undefer, with_polymorphic,
)

url = URL.create(
    "postgresql+psycopg2",
    username=os.environ["PGUSER"],
    password=os.environ["PGPASSWORD"],
    host=os.environ["PGHOST"],
    port=int(os.environ["PGPORT"]),
    database=os.environ["PGDATABASE"],
)


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(50), index=True)
    born: Mapped[datetime.date | None] = mapped_column(Date)
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    boss: Mapped["Person"] = relationship(remote_side=[id], back_populates="staff")
    staff: Mapped[list["Person"]] = relationship(back_populates="boss")
    orders: Mapped[list["Order"]] = relationship(back_populates="buyer", order_by="Order.id")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Engineer(Person):
    __tablename__ = "engineer"
    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    language: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {"polymorphic_identity": "engineer"}


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    buyer_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    placed: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    note: Mapped[str | None] = mapped_column(Text, deferred=True)
    facts: Mapped[dict] = mapped_column(JSONB, default=dict)
    marks: Mapped[list[str]] = mapped_column(ARRAY(String), default=list)
    buyer: Mapped[Person] = relationship(back_populates="orders")
    lines: Mapped[list["Line"]] = relationship(cascade="all, delete-orphan", lazy="selectin")


class Line(Base):
    __tablename__ = "line"
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    price: Mapped[float]
    count: Mapped[int] = mapped_column(default=1)


Person.spent = column_property(
    select(func.coalesce(func.sum(Order.total), 0)).where(Order.buyer_id == Person.id).correlate_except(Order).scalar_subquery(),
    deferred=True,
)


def fill(session):
    people = [Person(name=f"Person {i}", born=datetime.date(1970 + i, 2, 3)) for i in range(8)]
    people += [Engineer(name=f"Engineer {i}", language=["rust", "c"][i % 2], boss=people[i]) for i in range(6)]
    session.add_all(people)
    session.flush()
    for i in range(30):
        lines = [Line(number=n, item=f"item {n}", price=n * 1.5, count=n) for n in range(1, 2 + i % 4)]
        session.add(Order(buyer=people[i % 9], total=i * 10, facts={"a": {"b": i}, "c": [1, i]}, marks=["x", "y"][: i % 3], lines=lines))
    session.commit()


def queries():
    boss = aliased(Person)
    spent = select(Order.buyer_id, func.sum(Order.total).label("sum"), func.count().label("n")).group_by(Order.buyer_id).subquery()
    ranked = select(Order, func.row_number().over(partition_by=Order.buyer_id, order_by=desc(Order.total)).label("r")).subquery()
    tree = select(Person.id, Person.boss_id, literal(0).label("depth")).where(Person.boss_id.is_(None)).cte("tree", recursive=True)
    tree = tree.union_all(select(Person.id, Person.boss_id, tree.c.depth + 1).select_from(Person).join(tree, Person.boss_id == tree.c.id))
    top = select(Order.id, Order.total).where(Order.buyer_id == Person.id).order_by(desc(Order.total)).limit(2).lateral("top")
    pairs = values(column("id", Integer), column("word", String), name="pairs").data([(1, "a"), (2, "b")])
    everybody = with_polymorphic(Person, [Engineer])
    yield select(Person)
    yield select(Person).where(Person.name == "Person 1")
    yield select(Person.name, Person.born).where(Person.name.in_(["Person 1", "Person 2"])).order_by(Person.name)
    yield select(Person).where(Person.id.in_([]))
    yield select(Person).where(Person.name.ilike("%1%"), Person.name.startswith("P"), not_(Person.name.contains("x", autoescape=True)))
    yield select(Person).where(or_(Person.born.is_(None), and_(Person.born > datetime.date(1971, 1, 1), Person.born.between("1970-01-01", "1990-01-01"))))
    yield select(Person).where(tuple_(Person.id, Person.name).in_([(1, "Person 0"), (2, "x")]))
    yield select(Person).where(Person.name.regexp_match("^P"), Person.name.is_distinct_from(None))
    yield select(Person, boss.name).outerjoin(boss, Person.boss)
    yield select(Person).join(Person.orders).join(Order.lines).where(Line.count > 1).distinct()
    yield select(Person).options(selectinload(Person.orders).undefer(Order.note), joinedload(Person.boss))
    yield select(Person).options(subqueryload(Person.orders))
    yield select(Person).options(undefer(Person.spent)).order_by(Person.id).limit(3).offset(2)
    yield select(Engineer).where(Engineer.language == "rust")
    yield select(everybody).where(or_(everybody.Engineer.language == "c", everybody.name == "Person 1"))
    yield select(Person).where(Person.orders.any(Order.total > 100))
    yield select(Order).where(Order.buyer.has(Person.name == "Person 1"))
    yield select(Person.name, spent.c.sum).select_from(Person).join(spent, spent.c.buyer_id == Person.id).where(spent.c.n > 2)
    yield select(Person.name).where(exists().where(Order.buyer_id == Person.id, Order.total > 100))
    yield select(ranked).where(ranked.c.r <= 2)
    yield select(tree).order_by(tree.c.depth)
    yield select(Person.name, top.c.total).select_from(Person).join(top, true())
    yield select(Person.name, pairs.c.word).select_from(Person).join(pairs, pairs.c.id == Person.id)
    yield union(select(Person.name), select(Engineer.language)).order_by("name")
    yield union_all(select(Person.id), select(Order.id)).limit(5)
    yield select(Person.id).intersect(select(Order.buyer_id))
    yield select(Person.id).except_(select(Order.buyer_id))
    yield select(func.count(), func.max(Order.total), func.avg(Order.total), func.min(Order.placed)).select_from(Order)
    yield select(func.count(Order.id).filter(Order.total > 50), func.string_agg(Person.name, aggregate_order_by(literal(","), Person.name))).select_from(Order).join(Order.buyer)
    yield select(extract("year", Order.placed), func.date_trunc("month", Order.placed), func.count()).group_by(text("1, 2"))
    yield select(func.grouping(Person.kind), Person.kind, func.count()).group_by(func.rollup(Person.kind))
    yield select(case((Order.total > 100, "big"), (Order.total > 50, "mid"), else_="small").label("size"), func.count()).group_by(text("size"))
    yield select(cast(Order.total, String), func.lower(Person.name), func.length(Person.name) + 1, Person.name + "!").select_from(Order).join(Order.buyer)
    yield select(Order.facts["a"]["b"].astext, Order.facts[("c", "1")], Order.facts["a"].as_string()).where(Order.facts.contains({"a": {"b": 3}}))
    yield select(Order).where(Order.facts.has_key("a"), Order.facts["a"]["b"].as_integer() > 3, Order.facts.path_exists("$.a"))
    yield select(Order).where(Order.marks.contains(["x"]), Order.marks.any("x"), Order.marks.overlap(["x"]), Order.marks[1] == "x")
    yield select(array_agg(Order.id))
    yield select(func.unnest(array([1, 2])), func.generate_series(1, 3))
    yield select(func.percentile_cont(0.5).within_group(Order.total), func.mode().within_group(Order.total))
    yield select(func.json_build_object("a", Person.name), func.to_jsonb(Person.id), func.row_to_json(text("person"))).select_from(Person)
    yield select(Order.total, func.lag(Order.total).over(order_by=Order.id), func.sum(Order.total).over(order_by=Order.id, rows=(-2, 0)), func.ntile(3).over(order_by=Order.id))
    yield select(func.now(), func.current_date(), func.current_timestamp(), func.version(), literal(1))
    yield select(Order).where(Order.placed > func.now() - datetime.timedelta(days=1), Order.total % 20 == 0)
    yield select(Person).distinct(Person.kind).order_by(Person.kind, Person.id)
    yield select(Person.id).limit(1)
    yield select(Person).where(Person.name == bindparam("name", "Person 3"))
    yield text("SELECT p.name, count(*) FROM person p LEFT JOIN orders o ON o.buyer_id = p.id GROUP BY 1 HAVING count(*) > 1")


def mapper(level):
    engine = create_engine(url, isolation_level=level) if level else create_engine(url)
    if not level:
        Base.metadata.create_all(engine)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            fill(session)
    with Session(engine) as session:
        for query in queries():
            rows = session.execute(query).all()
            # What the mapper loads when it is asked for.
            for row in rows[:2]:
                if isinstance(row[0], Person):
                    row[0].orders, row[0].boss, row[0].staff
            session.rollback()
        session.execute(select(Person).join(Person.orders).options(contains_eager(Person.orders)).where(Order.total > 50)).unique().all()
        session.get(Person, 1), session.get(Person, 999), session.get(Order, 1).note
        session.scalar(select(func.count()).select_from(Person))
        session.query(Person).filter_by(name="Person 1").one_or_none(), session.query(Order).count(), session.query(Order).first()
        session.query(Person.name).join(Order).group_by(Person.name).having(func.sum(Order.total) > 10).all()
        session.refresh(session.get(Person, 2))
        session.rollback()
        if not level:
            # With a cursor on the server, which there is in transactions only.
            for part in session.execute(select(Order).execution_options(yield_per=10)).partitions():
                len(part)
        session.rollback()
        session.execute(select(Person).with_for_update(skip_locked=True)).all()
        session.execute(update(Order).where(Order.total < 20).values(total=Order.total + 1))
        session.execute(upsert(Line).values(order_id=1, number=1, item="x", price=1).on_conflict_do_nothing())
        session.execute(insert(Person).returning(Person.id), [{"name": "new", "kind": "person"}]).all()
        session.execute(delete(Person).where(Person.name == "new"))
        session.commit()
    seen = inspect(engine)
    for table in seen.get_table_names():
        for ask in (seen.get_columns, seen.get_pk_constraint, seen.get_foreign_keys, seen.get_indexes, seen.get_unique_constraints, seen.get_check_constraints):
            ask(table)
    engine.dispose()


# What a dialect's own tests need, as README.dialects.rst has it.
CONFTEST = """
import pytest
pytest.register_assert_rewrite("sqlalchemy.testing.assertions")
from sqlalchemy.testing.plugin.pytestplugin import *
"""
REQUIREMENTS = """
from sqlalchemy.testing.requirements import SuiteRequirements


class Requirements(SuiteRequirements):
    pass
"""
SETUP = """
[sqla_testing]
requirement_cls=corpus_requirements:Requirements
profile_file=profiles.txt
"""


def suite():
    engine = create_engine(url)
    with engine.begin() as connection:
        for schema in ("test_schema", "test_schema_2"):
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
    engine.dispose()
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory)
        (place / "conftest.py").write_text(CONFTEST)
        (place / "corpus_requirements.py").write_text(REQUIREMENTS)
        (place / "setup.cfg").write_text(SETUP)
        (place / "test_suite.py").write_text("from sqlalchemy.testing.suite import *\n")
        address = url.render_as_string(hide_password=False)
        arguments = ["-q", "--tb=line", "-p", "no:cacheprovider", "--maxfail=1000", "--dburi", address, "test_suite.py"]
        done = subprocess.run(
            [sys.executable, "-B", "-m", "pytest", *arguments],
            cwd=place, env={**os.environ, "PYTHONPATH": directory}, capture_output=True, text=True, check=False,
        )
        print(done.stdout[-3000:], done.stderr[-2000:], file=sys.stderr)
        assert " passed" in done.stdout, done.stdout[-3000:]


mapper(None)
mapper("AUTOCOMMIT")
# Takes a while.
if "HOWDAH_CORPUS" in os.environ:
    suite()
