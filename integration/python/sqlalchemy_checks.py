"""SQLAlchemy 2 with psycopg 3 and with psycopg 2."""

import time

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

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
    engine.dispose()


def psycopg3():
    use("postgresql+psycopg")


def psycopg2():
    use("postgresql+psycopg2")


if __name__ == "__main__":
    checks.main([psycopg3, psycopg2])
