"""The two sets of tables that `gateway.store.schema` fills, and the type of ids that count up."""

from sqlalchemy import BigInteger, Integer, MetaData

control = MetaData()
requests = MetaData()

# SQLite counts row ids up only for a column declared INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")
