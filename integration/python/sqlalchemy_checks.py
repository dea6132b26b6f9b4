"""SQLAlchemy 2 with psycopg 3 and with psycopg 2."""

import time

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

import checks


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "alchemy"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    balance: Mapped[int] = mapped_column(default=0)


def use(dialect):
    url = sa.URL.create(dialect, checks.USER, checks.PASSWORD, checks.HOST, checks.PORT, checks.DATABASE)
    engine = sa.create_engine(url, pool_size=8, pool_pre_ping=True)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Account(name=f"n{i}", balance=i) for i in range(200)])
    with Session(engine) as session:
        assert session.scalar(sa.select(sa.func.sum(Account.balance))) == 19900
        account = session.scalars(sa.select(Account).where(Account.name == "n7").with_for_update()).one()
        account.balance += 1
        session.commit()
        assert session.get(Account, account.id).balance == 8
    with Session(engine) as session:
        rows = session.scalars(sa.select(Account).execution_options(yield_per=20, stream_results=True))
        assert sum(account.balance for account in rows) == 19901
    # Reads of a new table go to the primary until Howdah knows what it is.
    time.sleep(2)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for i in range(50):
            query = sa.text("SELECT count(*) FROM alchemy AS marker_alchemy_read WHERE balance > :b")
            assert connection.execute(query, {"b": i}).scalar() > 0
    names = sa.inspect(engine).get_table_names()
    assert "alchemy" in names
    ended_servers(engine)
    engine.dispose()


def ended_servers(engine):
    """The servers of idle connections end: `pool_pre_ping` is there to keep that from the application."""
    killer = sa.create_engine(engine.url, poolclass=NullPool)
    for _ in range(3):
        # Some connections of the pool, each with a transaction of its own.
        sessions = [Session(engine) for _ in range(4)]
        for number, session in enumerate(sessions):
            change = sa.update(Account).where(Account.name == f"n{number}").values(balance=Account.balance + 1)
            assert session.execute(change).rowcount == 1
        for session in sessions:
            session.commit()
            session.close()
        with killer.connect() as connection:
            others = "FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
            assert connection.execute(sa.text(f"SELECT pg_terminate_backend(pid, 5000) {others}")).all()
    with Session(engine) as session:
        # 0 to 3, and three times one more.
        query = sa.select(sa.func.sum(Account.balance)).where(Account.name.in_([f"n{number}" for number in range(4)]))
        assert session.scalar(query) == 6 + 3 * 4


def psycopg3():
    use("postgresql+psycopg")


def psycopg2():
    use("postgresql+psycopg2")


if __name__ == "__main__":
    checks.main([psycopg3, psycopg2])
