BEGIN TRANSACTION;
CREATE TABLE anchors (
    conversation TEXT NOT NULL, ref TEXT NOT NULL, turn INTEGER NOT NULL, place INTEGER NOT NULL,
    PRIMARY KEY (conversation, ref)
) WITHOUT ROWID;
INSERT INTO "anchors" VALUES('console:0:0:0','a12',1,1);
INSERT INTO "anchors" VALUES('console:0:0:0','b12',1,2);
INSERT INTO "anchors" VALUES('console:0:0:0','q12',1,0);
INSERT INTO "anchors" VALUES('discord:900:0:0','a7',1,1);
INSERT INTO "anchors" VALUES('discord:900:0:0','b7',1,2);
INSERT INTO "anchors" VALUES('discord:900:0:0','q7',1,0);
INSERT INTO "anchors" VALUES('discord:901:31:0','a8',1,1);
INSERT INTO "anchors" VALUES('discord:901:31:0','b8',1,2);
INSERT INTO "anchors" VALUES('discord:901:31:0','q8',1,0);
INSERT INTO "anchors" VALUES('telegram:-5:11:3','a5',1,1);
INSERT INTO "anchors" VALUES('telegram:-5:11:3','b5',1,2);
INSERT INTO "anchors" VALUES('telegram:-5:11:3','q5',1,0);
INSERT INTO "anchors" VALUES('telegram:-5:22:3','a6',1,1);
INSERT INTO "anchors" VALUES('telegram:-5:22:3','b6',1,2);
INSERT INTO "anchors" VALUES('telegram:-5:22:3','q6',1,0);
INSERT INTO "anchors" VALUES('telegram:11:0:0','a1',1,1);
INSERT INTO "anchors" VALUES('telegram:11:0:0','a2',2,1);
INSERT INTO "anchors" VALUES('telegram:11:0:0','a3',3,1);
INSERT INTO "anchors" VALUES('telegram:11:0:0','a4',4,1);
INSERT INTO "anchors" VALUES('telegram:11:0:0','b1',1,2);
INSERT INTO "anchors" VALUES('telegram:11:0:0','b2',2,2);
INSERT INTO "anchors" VALUES('telegram:11:0:0','b3',3,2);
INSERT INTO "anchors" VALUES('telegram:11:0:0','b4',4,2);
INSERT INTO "anchors" VALUES('telegram:11:0:0','q1',1,0);
INSERT INTO "anchors" VALUES('telegram:11:0:0','q2',2,0);
INSERT INTO "anchors" VALUES('telegram:11:0:0','q3',3,0);
INSERT INTO "anchors" VALUES('telegram:11:0:0','q4',4,0);
INSERT INTO "anchors" VALUES('web:77:5:0','a9',1,1);
INSERT INTO "anchors" VALUES('web:77:5:0','b9',1,2);
INSERT INTO "anchors" VALUES('web:77:5:0','q9',1,0);
INSERT INTO "anchors" VALUES('web:78:5:0','a10',1,1);
INSERT INTO "anchors" VALUES('web:78:5:0','b10',1,2);
INSERT INTO "anchors" VALUES('web:78:5:0','q10',1,0);
INSERT INTO "anchors" VALUES('web:78:6:0','a11',1,1);
INSERT INTO "anchors" VALUES('web:78:6:0','b11',1,2);
INSERT INTO "anchors" VALUES('web:78:6:0','q11',1,0);
CREATE TABLE asked (
    owner TEXT NOT NULL,
    question TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (owner, question)
) WITHOUT ROWID;
INSERT INTO "asked" VALUES('telegram:11','telegram:u20',2000.0);
INSERT INTO "asked" VALUES('telegram:chat:-5','telegram:u20',2000.0);
CREATE TABLE epochs (conversation TEXT PRIMARY KEY, epoch INTEGER NOT NULL, last_id INTEGER NOT NULL, head INTEGER NOT NULL DEFAULT 0)
    WITHOUT ROWID;
INSERT INTO "epochs" VALUES('console:0:0:0',0,1,1);
INSERT INTO "epochs" VALUES('discord:900:0:0',0,1,1);
INSERT INTO "epochs" VALUES('discord:901:31:0',0,1,1);
INSERT INTO "epochs" VALUES('telegram:-5:11:3',0,1,1);
INSERT INTO "epochs" VALUES('telegram:-5:22:3',0,1,1);
INSERT INTO "epochs" VALUES('telegram:11:0:0',0,5,5);
INSERT INTO "epochs" VALUES('web:77:5:0',0,1,1);
INSERT INTO "epochs" VALUES('web:78:5:0',0,1,1);
INSERT INTO "epochs" VALUES('web:78:6:0',0,1,1);
CREATE TABLE inbox (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    platform TEXT NOT NULL,
    update_id TEXT NOT NULL,
    accepted_at REAL NOT NULL,
    user TEXT,
    message TEXT,
    marks TEXT NOT NULL DEFAULT '{}',
    answer TEXT, turn INTEGER, conversation TEXT, dead TEXT, dead_at REAL,
    UNIQUE (platform, update_id)
);
INSERT INTO "inbox" VALUES(1,'telegram','u1',1001.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(2,'telegram','u2',1002.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(3,'telegram','u3',1003.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(4,'telegram','u4',1004.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(5,'telegram','u5',1005.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(6,'telegram','u6',1006.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(7,'discord','u7',1007.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(8,'discord','u8',1008.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(9,'web','u9',1009.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(10,'web','u10',1010.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(11,'web','u11',1011.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(12,'console','u12',1012.0,NULL,NULL,'{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "inbox" VALUES(13,'telegram','u20',2000.0,'telegram:11','{"update_id": "u20", "conversation": "telegram:11:0:0", "user": "telegram:11", "text": "waits", "chat_kind": "private", "user_name": "", "language": "", "vouched": null, "origin": {"chat": "11"}, "ref": "", "edits": false, "replies_to": "", "quoted": "", "in_place": false, "addressed": "directly", "media": "", "own": false}','{"sent":"[1, 2]","tries":"1"}','{"text": "half shown", "state": "final", "notice": "", "finish_reason": ""}',5,'telegram:11:0:0',NULL,NULL);
INSERT INTO "inbox" VALUES(14,'telegram','u21',2000.0,'telegram:11','{"update_id": "u21", "conversation": "telegram:-5:11:3", "user": "telegram:11", "text": "failed", "chat_kind": "private", "user_name": "", "language": "", "vouched": null, "origin": {}, "ref": "", "edits": false, "replies_to": "", "quoted": "", "in_place": false, "addressed": "directly", "media": "", "own": false}','{}',NULL,NULL,'telegram:-5:11:3','refused five times',2002.0);
CREATE TABLE settings (
    owner TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (owner, name)
) WITHOUT ROWID;
INSERT INTO "settings" VALUES('console:0','language','en');
INSERT INTO "settings" VALUES('console:chat:0','prompt','prompt of root');
INSERT INTO "settings" VALUES('discord:chat:900','prompt','prompt of discord 900');
INSERT INTO "settings" VALUES('discord:chat:901','prompt','prompt of discord 901');
INSERT INTO "settings" VALUES('telegram:11','language','zh');
INSERT INTO "settings" VALUES('telegram:33','name','sealed:a stranger');
INSERT INTO "settings" VALUES('telegram:33','pairing','ABCDEFGH 5000.0');
INSERT INTO "settings" VALUES('telegram:chat:-5','mode','all');
INSERT INTO "settings" VALUES('telegram:chat:-5','prompt','prompt of telegram -5');
INSERT INTO "settings" VALUES('telegram:chat:11','prompt','prompt of telegram 11');
INSERT INTO "settings" VALUES('web:chat:77','prompt','prompt of web 77');
INSERT INTO "settings" VALUES('web:chat:78','prompt','prompt of web 78');
INSERT INTO "settings" VALUES('web:chat:79','prompt','prompt of web 79');
CREATE TABLE turns (
    conversation TEXT NOT NULL,
    id INTEGER NOT NULL,
    user TEXT NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    at REAL NOT NULL, parent INTEGER NOT NULL DEFAULT 0, ref TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (conversation, id)
) WITHOUT ROWID;
INSERT INTO "turns" VALUES('console:0:0:0',1,'console:0','question 12','answer 12',1012.0,0,'q12');
INSERT INTO "turns" VALUES('discord:900:0:0',1,'discord:31','question 7','answer 7',1007.0,0,'q7');
INSERT INTO "turns" VALUES('discord:901:31:0',1,'discord:31','question 8','answer 8',1008.0,0,'q8');
INSERT INTO "turns" VALUES('telegram:-5:11:3',1,'telegram:11','question 5','answer 5',1005.0,0,'q5');
INSERT INTO "turns" VALUES('telegram:-5:22:3',1,'telegram:22','question 6','answer 6',1006.0,0,'q6');
INSERT INTO "turns" VALUES('telegram:11:0:0',1,'telegram:11','question 1','answer 1',1001.0,0,'q1');
INSERT INTO "turns" VALUES('telegram:11:0:0',2,'telegram:11','question 2','answer 2',1002.0,1,'q2');
INSERT INTO "turns" VALUES('telegram:11:0:0',3,'telegram:11','question 3','answer 3',1003.0,2,'q3');
INSERT INTO "turns" VALUES('telegram:11:0:0',4,'telegram:11','question 4','answer 4',1004.0,1,'q4');
INSERT INTO "turns" VALUES('telegram:11:0:0',5,'telegram:11','waits','half shown',2001.0,4,'');
INSERT INTO "turns" VALUES('web:77:5:0',1,'web:5','question 9','answer 9',1009.0,0,'q9');
INSERT INTO "turns" VALUES('web:78:5:0',1,'web:5','question 10','answer 10',1010.0,0,'q10');
INSERT INTO "turns" VALUES('web:78:6:0',1,'web:6','question 11','answer 11',1011.0,0,'q11');
CREATE INDEX inbox_open ON inbox (platform, arrival) WHERE message IS NOT NULL;
CREATE INDEX turns_user ON turns (user);
CREATE INDEX turns_at ON turns (at);
CREATE INDEX anchors_turn ON anchors (conversation, turn);
CREATE TRIGGER turn_gone AFTER DELETE ON turns BEGIN
    DELETE FROM anchors WHERE conversation = OLD.conversation AND turn = OLD.id;
END;
CREATE INDEX inbox_conversation ON inbox (conversation, arrival) WHERE message IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('inbox',14);
COMMIT;
PRAGMA user_version = 4;
