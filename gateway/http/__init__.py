"""HTTP: connections, routes, bodies, answers; what every feature is served with."""
