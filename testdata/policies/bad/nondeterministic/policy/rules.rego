package bad

# The answer depends on when it is asked.
findings contains {"effect": "block", "rule": "bad.night"} if {
	hour := (time.now_ns() / 3600000000000) % 24
	hour < 6
}

findings contains {"effect": "require_approval", "rule": "bad.sample"} if {
	rand.intn("sample", 10) == 0
}
