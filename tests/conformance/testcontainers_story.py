"""What a test of somebody's project does with testcontainers, as a program: its output is what it found.

Runs in the host network of the engine. argv[1]: the directory that PostgreSQL's image is built from.
"""

import sys

import pg8000.native
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HealthcheckWaitStrategy, LogMessageWaitStrategy

with DockerImage(path=sys.argv[1], tag="postgres-of-debian:1", clean_up=False) as image, Network() as network:
    database = PostgresContainer(str(image), username="anna", password="se'cret", dbname="shop")
    database.with_network(network).with_network_aliases("db").waiting_for(HealthcheckWaitStrategy())
    with database:
        address = {"host": database.get_container_host_ip(), "port": int(database.get_exposed_port(5432))}
        connection = pg8000.native.Connection("anna", database="shop", password="se'cret", **address)
        print(connection.run("SELECT version()")[0][0].split()[0])
        connection.run("CREATE TABLE boats (name text, length int)")
        connection.run("INSERT INTO boats SELECT 'skiff ' || n, n FROM generate_series(1, 10000) AS n")
        print(connection.run("SELECT count(*), max(length) FROM boats"))
        connection.close()
        code, output = database.exec(
            ["sh", "-c", "PGPASSWORD=$POSTGRES_PASSWORD psql -h db -U anna shop -Atc 'SELECT 6 * 7'"]
        )
        print(code, output)
        other = DockerContainer("busybox").with_command("sh -c 'nc -w 1 db 5432 </dev/null && echo reached'")
        with other.with_network(network).waiting_for(LogMessageWaitStrategy("reached")):
            print(other.get_logs())
        print("database system is ready" in database.get_logs()[1].decode())
    print(database.get_docker_client().client.containers.list(all=True, filters={"ancestor": str(image)}))
