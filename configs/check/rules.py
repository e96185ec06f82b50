"""Prints the groups of a PrometheusRule as the rule file that Prometheus itself reads."""

import sys

import yaml

with open(sys.argv[1], encoding="utf-8") as file:
    print(yaml.safe_dump({"groups": yaml.safe_load(file)["spec"]["groups"]}, sort_keys=False))
