"""What the Grafana dashboards show: titles, queries and units."""
