-- A record, and how long it is still kept, in milliseconds: below zero for ever.
return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}
