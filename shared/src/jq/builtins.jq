# What jq has, and jaq's core and standard library have not.

def toboolean: if type == "boolean" then . elif . == "true" then true elif . == "false" then false else error end;

def transpose: [range([.[] | length] | max // 0) as $i | [.[][$i]]];

def in(xs): . as $x | xs | has($x);
def inside(xs): . as $x | xs | contains($x);
def index($i): indices($i)[0];
def rindex($i): indices($i)[-1];

def @json: tojson;
