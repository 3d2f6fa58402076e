"""Who reaches whom in the Kubernetes set: the network policies, judged as a cluster would judge them."""

import ipaddress

import pytest
from tests.cluster.manifests import built, pod_specs

BASE = built("base")
POLICIES = [each["spec"] for each in BASE if each["kind"] == "NetworkPolicy"]
PODS = {whose: labels for each in BASE for whose, labels, _ in pod_specs(each)}
HERE = {"kubernetes.io/metadata.name": "heliostat"}
OPERATOR = (
    {"app.kubernetes.io/name": "kuberay-operator"},
    {"kubernetes.io/metadata.name": "kuberay-operator"},
)
INGRESS_CONTROLLER = ({}, {"kubernetes.io/metadata.name": "ingress", "heliostat/clients": "true"})
STRANGER = ({}, {"kubernetes.io/metadata.name": "elsewhere"})
HEAD, TRAIN = "heliostat/head", "heliostat/train"


def chooses(selector, labels):
    """Whether a label selector takes these labels; an empty one takes all."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    assert all(each["operator"] == "In" for each in selector.get("matchExpressions", ()))
    return all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", ()))


def is_peer(peer, other):
    """Whether a rule's peer is this one: an address, or a pod as (labels, its namespace's labels)."""
    if isinstance(other, str):
        block = peer.get("ipBlock")
        address = ipaddress.ip_address(other)
        return block is not None and (
            address in ipaddress.ip_network(block["cidr"])
            and not any(address in ipaddress.ip_network(each) for each in block.get("except", ()))
        )
    labels, namespace = other
    if "ipBlock" in peer:
        return False
    near = chooses(peer["namespaceSelector"], namespace) if "namespaceSelector" in peer else namespace == HERE
    return near and chooses(peer.get("podSelector", {}), labels)


def lets(direction, labels, other, port):
    """Whether the policies of a pod of this namespace let it exchange with `other` in this direction."""
    mine = [
        each for each in POLICIES if direction in each["policyTypes"] and chooses(each["podSelector"], labels)
    ]
    assert mine, "default-deny chooses every pod"
    key, peers = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}[direction]
    return any(
        any(is_peer(peer, other) for peer in rule[peers])
        and ("ports" not in rule or port in [each["port"] for each in rule["ports"]])
        for policy in mine
        for rule in policy.get(key, ())
    )


def reaches(source, target, port):
    """Whether one pod of the set reaches another: both sides must agree."""
    one, other = PODS[source], PODS[target]
    return lets("Egress", one, (other, HERE), port) and lets("Ingress", other, (one, HERE), port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (HEAD, TRAIN, 10002),
        (TRAIN, HEAD, 6379),
        (TRAIN, "heliostat/data", 10002),
        (HEAD, "heliostat-redis", 6379),
        (HEAD, "heliostat-mlflow", 5000),
        (TRAIN, "heliostat-mlflow", 5000),
        ("heliostat-mlflow", "heliostat-postgres", 5432),
        ("heliostat-dashboard", "heliostat-postgres", 5432),
        ("heliostat-dashboard", "heliostat-mlflow", 5000),
        ("heliostat-dashboard", HEAD, 8265),
        ("heliostat-dashboard", HEAD, 8000),
    ],
)
def test_what_must_reach_each_other_does(source, target, port):
    assert reaches(source, target, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (TRAIN, "heliostat-redis", 6379),
        (TRAIN, "heliostat-postgres", 5432),
        (HEAD, "heliostat-postgres", 5432),
        (TRAIN, "heliostat-dashboard", 8501),
        ("heliostat-mlflow", HEAD, 8265),
        ("heliostat-mlflow", "heliostat-redis", 6379),
        ("heliostat-dashboard", HEAD, 6379),
        ("heliostat-redis", HEAD, 8265),
    ],
)
def test_what_need_not_reach_each_other_does_not(source, target, port):
    assert not reaches(source, target, port)


@pytest.mark.parametrize("pod", PODS)
def test_the_clouds_metadata_is_out_of_reach(pod):
    for port in (80, 443):
        assert not lets("Egress", PODS[pod], "169.254.169.254", port)


@pytest.mark.parametrize("pod", PODS)
def test_names_are_resolved_and_nothing_else_of_the_systems_namespace_is_reached(pod):
    system = {"kubernetes.io/metadata.name": "kube-system"}
    assert lets("Egress", PODS[pod], ({"k8s-app": "kube-dns"}, system), 53)
    assert not lets("Egress", PODS[pod], ({"k8s-app": "other"}, system), 443)


def test_the_object_store_is_reached_by_those_that_keep_things_there():
    there = {pod for pod, labels in PODS.items() if lets("Egress", labels, "52.216.0.1", 443)}
    assert there == {
        HEAD, TRAIN, "heliostat/data", "heliostat/serve", "heliostat-mlflow", "heliostat-dashboard",
    }  # fmt: skip


def test_only_the_operator_and_clients_come_in_from_other_namespaces():
    come_in = {
        (pod, port, str(who[1].get("kubernetes.io/metadata.name")))
        for pod, labels in PODS.items()
        for port in (5000, 5432, 6379, 8000, 8001, 8265, 8501, 10001, 10002, 52365)
        for who in (OPERATOR, INGRESS_CONTROLLER, STRANGER)
        if lets("Ingress", labels, who, port)
    }
    rays = {HEAD, TRAIN, "heliostat/data", "heliostat/serve"}
    assert come_in == (
        {(pod, port, "kuberay-operator") for pod in rays for port in (8265, 52365, 8001)}
        | {(pod, 8000, "ingress") for pod in rays}
        | {("heliostat-dashboard", 8501, "ingress")}
    )
