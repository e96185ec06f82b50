"""What no schema sees: that manifests fit each other, and that the configurations in them load.

Each check names the place, what was expected and what was found. The first that fails ends the run.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import yaml

configs, rendered = (pathlib.Path(argument) for argument in sys.argv[1:3])
root = configs.parent
binary = pathlib.Path(os.environ.get("TRACEGATE_BINARY", root / "target/release/tracegate"))


def load(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document]


def expect(holds, place, message):
    if not holds:
        sys.exit(f"{place}: {message}")


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def check(overlay):
    documents = load(rendered / f"{overlay}.yaml")
    of_kind = lambda *kinds: [document for document in documents if document["kind"] in kinds]
    workloads = {document["metadata"]["name"]: document for document in of_kind("Deployment", "DaemonSet")}
    expect(set(workloads) == {"otel-agent", "otel-gateway"}, overlay, f"workloads are {sorted(workloads)}")

    for service in of_kind("Service"):
        name = service["metadata"]["name"]
        chosen = [
            work for work in workloads.values()
            if matches(service["spec"]["selector"], work["spec"]["template"]["metadata"]["labels"])
        ]
        expect(len(chosen) == 1, f"{overlay}, Service {name}", f"selects {len(chosen)} workloads, expected one")
        container = chosen[0]["spec"]["template"]["spec"]["containers"][0]
        named = {port["name"] for port in container["ports"]}
        for port in service["spec"]["ports"]:
            expect(port["targetPort"] in named, f"{overlay}, Service {name}", f"port {port['targetPort']} is not in {named}")

    (monitor,) = of_kind("ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    scraped = [service for service in of_kind("Service") if matches(wanted, service["metadata"]["labels"])]
    names = sorted(service["metadata"]["name"] for service in scraped)
    expect(names == ["otel-agent", "otel-gateway"], f"{overlay}, ServiceMonitor", f"selects {names}")
    for service in scraped:
        ports = {port["name"] for port in service["spec"]["ports"]}
        expect(monitor["spec"]["endpoints"][0]["port"] in ports, f"{overlay}, ServiceMonitor", f"port is not in {ports}")
        job = service["metadata"]["labels"][monitor["spec"]["jobLabel"]]
        expect(job == "otel-collector", f"{overlay}, ServiceMonitor", f"the alerts' job is otel-collector, this one is {job}")

    (scaler,) = of_kind("HorizontalPodAutoscaler")
    target = scaler["spec"]["scaleTargetRef"]["name"]
    expect("replicas" not in workloads[target]["spec"], f"{overlay}, {target}", "names replicas beside an autoscaler")
    (adapter,) = load(configs / "k8s/prometheus-adapter/values.yaml")
    given = [rule["name"]["as"].replace("$1", rule["name"]["matches"].split("(")[1].split(")")[0]) for rule in adapter["rules"]["custom"]]
    for metric in scaler["spec"]["metrics"]:
        if metric["type"] == "Pods":
            name = metric["pods"]["metric"]["name"]
            expect(name in given, f"{overlay}, autoscaler", f"{name} is not among the adapter's {given}")
    for rule in adapter["rules"]["custom"]:
        expect("rate(" in rule["metricsQuery"], "prometheus-adapter", "the metric of the autoscaler has to be a rate")

    (budget,) = of_kind("PodDisruptionBudget")
    selector = budget["spec"]["selector"]["matchLabels"]
    expect(matches(selector, workloads["otel-gateway"]["spec"]["template"]["metadata"]["labels"]), overlay, "the disruption budget selects nothing")

    maps = {document["metadata"]["name"]: document["data"] for document in of_kind("ConfigMap")}
    for name, work in workloads.items():
        pod = work["spec"]["template"]["spec"]
        container = pod["containers"][0]
        mounts = {volume["name"]: volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
        paths = {mount["mountPath"]: mounts[mount["name"]] for mount in container["volumeMounts"] if mount["name"] in mounts}
        with tempfile.TemporaryDirectory() as folder:
            arguments = []
            for argument in container["args"]:
                path = pathlib.PurePosixPath(argument)
                if str(path.parent) in paths:
                    text = maps[paths[str(path.parent)]][path.name]
                    file = pathlib.Path(folder, path.name)
                    file.write_text(text, encoding="utf-8")
                    argument = str(file)
                arguments.append(argument)
            validate(f"{overlay}, {name}", arguments)
    if overlay == "dedicated":
        check_dedicated(overlay, workloads["otel-gateway"]["spec"]["template"]["spec"])
    print(f"ok: k8s/{overlay} fits together")


def check_dedicated(overlay, pod):
    """Whole cores of its own: one container short of it, and the kubelet gives the pod none."""
    for container in pod.get("initContainers", []) + pod["containers"]:
        name, resources = container["name"], container["resources"]
        expect(resources["requests"] == resources["limits"], overlay, f"requests of {name} differ from limits, so the class is not Guaranteed")
        expect({"cpu", "memory"} <= set(resources["limits"]), overlay, f"{name} has no limit of memory or cores")
        expect(str(resources["limits"]["cpu"]).isdigit(), overlay, f"the number of cores of {name} is not whole")
    # What the nodes are labelled with is what they are tainted with, as the comment of the overlay says.
    ((key, value),) = pod["nodeSelector"].items()
    expect({"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"} in pod["tolerations"], overlay, "the taint of its nodes is not tolerated")
    said = (configs / "k8s" / overlay / "kustomization.yaml").read_text(encoding="utf-8")
    expect(f"taint node NODE {key}={value}:NoSchedule" in said and f"label node NODE {key}={value}\n" in said, overlay, "its comment names other labels and taints")


def validate(place, arguments):
    if not binary.exists():
        print(f"skipped: configuration of {place} ({binary.name} is not built)")
        return
    done = subprocess.run([binary, "validate", *arguments], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, place, done.stderr + done.stdout)


for overlay in ("collector", "dedicated", "mtls"):
    check(overlay)
(application,) = load(configs / "k8s/argocd/application.yaml")
path = application["spec"]["source"]["path"]
expect((root / path / "kustomization.yaml").exists(), "argocd", f"{path} is not a kustomization of this repository")
pointers = [pointer for ignored in application["spec"]["ignoreDifferences"] for pointer in ignored["jsonPointers"]]
expect("/spec/replicas" in pointers, "argocd", "the application would fight the autoscaler over replicas")
print("ok: argocd points at what is here")
